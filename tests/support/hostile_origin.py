"""A picture's host that does as its script says, on a raw loopback socket, in TLS if asked.

In a test: `with HostileOrigin(answer(PICTURE)) as origin: …`. A script is called once for each
connection with a `Visit`; when it returns, the connection is closed.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

GIVE_UP_SECONDS = 30.0
"""No script lasts longer, whatever the tested side does."""

PICTURE = bytes(range(256)) * 40


class Visit:
    """One connection of a visitor."""

    def __init__(self, connected: socket.socket, origin: "HostileOrigin") -> None:
        connected.settimeout(GIVE_UP_SECONDS)
        self.socket = connected
        self.origin = origin

    def read_request(self) -> bytes:
        """One request's head; nothing once the visitor has gone."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            received = self.socket.recv(65536)
            if not received:
                return b""
            head += received
        self.origin.requests.append(head)
        return head

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def drip(self, data: bytes, every: float) -> None:
        """Send a byte at a time, over and over, until the visitor has gone."""
        while not self.origin.stopping.is_set():
            for byte in data:
                self.send(bytes([byte]))
                if self.origin.stopping.wait(every):
                    return

    def flood(self, data: bytes) -> None:
        """Send the same over and over, as fast as it is taken, until the visitor has gone."""
        while not self.origin.stopping.is_set():
            self.send(data)

    def wait_until_gone(self) -> None:
        """Say nothing until the visitor closes the connection."""
        while self.socket.recv(65536):
            pass

    def reset(self) -> None:
        """Break the connection off with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


Script = Callable[[Visit], None]


class HostileOrigin:
    """Listens while it is entered; counts connections and keeps the requests read.

    `script` and `tls` may be changed for the connections to come. At the address `::` it listens on
    all of IPv4 and IPv6.
    """

    def __init__(
        self,
        script: Script,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.stopping = threading.Event()
        self.gone = threading.Semaphore(0)
        self.script = script
        self.tls = tls
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listening = socket.create_server(
            (address, port), family=family, dualstack_ipv6=address == "::"
        )
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def url(self) -> str:
        """A picture of this host, by the address it listens on."""
        return f"http://127.0.0.1:{self.port}/picture.jpg"

    @property
    def open_connections(self) -> int:
        """Connections whose script has not ended."""
        return len(self._open)

    def hang_up(self) -> None:
        """End all connections."""
        for connected in list(self._open):
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which takes TLS away from the script that uses it.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(GIVE_UP_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connected)
            thread = threading.Thread(target=self._serve, args=(connected,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connected: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                connected.settimeout(GIVE_UP_SECONDS)
                if self.tls is not None:
                    connected = self._secured(connected, self.tls)
                self.script(Visit(connected, self))
                _say_goodbye(connected)
        finally:
            self._open.discard(connected)
            connected.close()
            self.gone.release()

    def _secured(self, connected: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        """TLS on a connection, which a socket of its own then stands for."""
        secured = tls.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)
        self._open.discard(connected)
        self._open.add(secured)
        try:
            secured.do_handshake()
        except OSError:
            self._open.discard(secured)
            secured.close()
            raise
        return secured


def _say_goodbye(connected: socket.socket) -> None:
    """End TLS as the standard asks, so that a cut-off is what a test made, not this."""
    if isinstance(connected, ssl.SSLSocket) and connected.fileno() >= 0:
        connected.settimeout(1)
        connected.unwrap()


def response(
    body: bytes = PICTURE,
    *,
    status: str = "200 OK",
    fields: tuple[str, ...] = (),
    length: int | None = None,
) -> bytes:
    """An answer's bytes; its Content-Length may lie."""
    stated = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {stated}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    """An answer that leads elsewhere."""
    return response(b"", status=status, fields=(f"Location: {location}",))


def answer(data: bytes) -> Script:
    """A script that answers every request of a connection with these bytes."""

    def script(visit: Visit) -> None:
        while visit.read_request():
            visit.send(data)

    return script


def answer_once(data: bytes) -> Script:
    """A script that answers one request with these bytes and hangs up."""

    def script(visit: Visit) -> None:
        visit.read_request()
        visit.send(data)

    return script


def after_request(act: Callable[[Visit], None]) -> Script:
    """A script that reads one request and then acts."""

    def script(visit: Visit) -> None:
        visit.read_request()
        act(visit)

    return script
