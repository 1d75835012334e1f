"""The REST port: HTTP/1.1 with keep-alive in front of `RestApi`.

The standard library's server is enough for a stand-in: it needs no further dependency, one thread
per connection waits without cost while a model computes outside of Python's lock, and what it lacks
is bounded here: connections, requests answered at once, heads, bodies, and how long a caller may be
silent. TensorFlow Serving's own server has no limit on heads and bodies.
"""

import contextlib
import email.utils
import http
import logging
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Final, TypeAlias

from model.server.http_body import BodyRefused, declared_length, read_body
from model.server.json_reader import string_of
from model.server.rest_api import Core, Reply, Request, RequestCounter, RestApi, page

LOG = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 256 * 1024 * 1024
MAX_CONNECTIONS: Final = 1024
SILENT_SECONDS: Final = 60.0
"""How long a connection may say nothing, between requests or within one."""
DISCARD_SECONDS: Final = 1.0
"""For how long the rest of a refused request is read and thrown away."""


Connected: TypeAlias = socket.socket | tuple[bytes, socket.socket]
"""What socketserver calls a request: for TCP always a socket."""


class RestServer:
    """The REST port of one server.

    Args:
        core: what answers.
        metrics: gets a count of every request, and is the page at `monitoring_path`.
        host: the address to listen on; "" or "::" for all, of both families where there are two.
        port: the port, 0 for any that is free.
        threads: how many requests are answered at once.
        timeout_seconds: how long a model may run for one request; None or 0 for no limit.
        cors: whether replies allow other origins to read them.
        monitoring_path: where the metrics are; None for nowhere.
        max_body_bytes: larger bodies are refused unread.
    """

    def __init__(  # noqa: PLR0913 -- the flags of one port
        self,
        core: Core,
        metrics: RequestCounter,
        host: str,
        port: int,
        *,
        threads: int,
        timeout_seconds: float | None = None,
        cors: bool = False,
        monitoring_path: str | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._api = RestApi(
            core,
            metrics,
            timeout_seconds=timeout_seconds,
            cors=cors,
            monitoring_path=monitoring_path,
        )
        self._address = (host or "::", port)
        self._threads = threads
        self._max_body_bytes = max_body_bytes
        self._listener: _Listener | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, once started."""
        return int(self._running().server_address[1])

    def start(self) -> None:
        """Listen and answer, in threads of its own.

        Raises:
            OSError: the address cannot be listened on.
        """
        slots = threading.BoundedSemaphore(self._threads)
        self._listener = _listener(self._address, self._api, slots, self._max_body_bytes)
        accepting = threading.Thread(
            target=self._listener.serve_forever, args=(0.05,), name="rest", daemon=True
        )
        accepting.start()

    def stop(self, grace_seconds: float = 30.0) -> None:
        """Stop accepting, let requests under way end, close what is left after the grace time."""
        self._running().drain(grace_seconds)

    def _running(self) -> "_Listener":
        if self._listener is None:
            raise RuntimeError("the REST server was not started")
        return self._listener


def _listener(
    address: tuple[str, int], api: RestApi, slots: threading.BoundedSemaphore, max_body_bytes: int
) -> "_Listener":
    """Listen on an address; on "::" for both families, or for the older where there is no other."""
    host, port = address
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 -- all addresses, as TensorFlow Serving does
    return _Listener((host, port), api, slots, max_body_bytes)


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Accepts connections up to a number and gives each a thread."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        api: RestApi,
        slots: threading.BoundedSemaphore,
        max_body_bytes: int,
    ) -> None:
        self.api = api
        self.slots = slots
        self.max_body_bytes = max_body_bytes
        self.stopping = False
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._changed = threading.Condition()
        self._idle: dict[Connected, bool] = {}
        super().__init__(address, _Connection)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: Connected, client_address: object) -> None:
        """Start a connection's thread, once there is room for one more."""
        while not self._room.acquire(timeout=0.1):
            if self.stopping:
                self.shutdown_request(request)
                return
        self.set_idle(request, idle=False)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Connected, client_address: object) -> None:
        """Serve one connection until it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Callers hang up; that is no news."""
        LOG.debug("a connection of %s ended early", client_address, exc_info=True)

    def set_idle(self, connection: Connected, *, idle: bool) -> None:
        """Note whether a connection waits for its next request."""
        with self._changed:
            self._idle[connection] = idle
            if idle and self.stopping:
                _end(connection, socket.SHUT_RD)

    def _forget(self, connection: Connected) -> None:
        with self._changed:
            self._idle.pop(connection, None)
            self._changed.notify_all()

    def drain(self, grace_seconds: float) -> None:
        """Stop listening and wait for requests under way, up to the grace time."""
        deadline = time.monotonic() + grace_seconds
        self.stopping = True
        self.shutdown()
        self.server_close()
        with self._changed:
            for connection, idle in self._idle.items():
                if idle:
                    _end(connection, socket.SHUT_RD)
            while self._idle and deadline > time.monotonic():
                self._changed.wait(deadline - time.monotonic())
            for connection in self._idle:
                _end(connection, socket.SHUT_RDWR)


def _end(connection: Connected, how: int) -> None:
    """End a connection, or only its reading: what has already arrived is still read then."""
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):
            connection.shutdown(how)


class _Connection(BaseHTTPRequestHandler):
    """Reads the requests of one connection, one after the other."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    timeout = SILENT_SECONDS
    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            super().handle()
        except TimeoutError:
            LOG.debug("a connection of %s fell silent", self.client_address)

    def handle_one_request(self) -> None:
        self.server.set_idle(self.connection, idle=True)
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.server.set_idle(self.connection, idle=False)
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        """Ask for a body only when it may be as large as it says."""
        if declared_length(self.headers) > self.server.max_body_bytes:
            self._refuse(413)
            return False
        return super().handle_expect_100()

    def do_GET(self) -> None:
        """Answer any of the methods that TensorFlow Serving lets in."""
        try:
            body = read_body(self.headers, self.rfile, self.server.max_body_bytes)
        except BodyRefused as error:
            self._refuse(error.status)
            return
        request = Request(
            self.command,
            string_of(self.path.encode("latin-1", "replace")),
            body,
            content_encoding=self.headers.get("Content-Encoding", ""),
            origin=self.headers.get("Origin", ""),
        )
        with self.server.slots:
            reply = self.server.api.answer(request)
        self._send(reply)

    do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_GET  # noqa: N815

    def _refuse(self, status: int) -> None:
        self.close_connection = True
        self._send(page(status, _phrase(status)))
        self._discard()

    def _discard(self) -> None:
        """Read on for a moment: closing on unread bytes could take the answer back."""
        end = time.monotonic() + DISCARD_SECONDS
        self.connection.settimeout(DISCARD_SECONDS)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < end and self.connection.recv(65536):
                pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what http.server itself refuses with the bare page."""
        LOG.debug("refused: %s %s %s", code, message, explain)
        self._refuse(int(code))

    def _send(self, reply: Reply) -> None:
        if self.server.stopping:
            self.close_connection = True
        headers = {
            **reply.headers,
            "Date": email.utils.formatdate(usegmt=True),
            "Content-Length": str(len(reply.body)),
            "Connection": "close" if self.close_connection else "keep-alive",
        }
        head = f"HTTP/1.1 {reply.status} {_phrase(reply.status)}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items()
        )
        body = b"" if getattr(self, "command", "") == "HEAD" else reply.body
        self.wfile.write(head.encode("latin-1") + b"\r\n" + body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """TensorFlow Serving logs no requests."""
        LOG.debug(format, *arguments)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else "Unknown"
