"""What runs before Flask: whole, admitted requests go in, answers come out.

One `Shell` serves one listening address in one worker process. Its connections read and write on
the event loop (`gateway/connection.py`); the application runs in a bounded pool of threads and gets
these keys in its environ beside WSGI's own:

- `tensorgate.deadline`: Deadline, started with the request's first byte
- `tensorgate.request_id`: str, also sent back as X-Request-ID
- `tensorgate.queue_seconds`: float, from the first byte until a thread took the request
- `tensorgate.cancelled`: threading.Event, set when nobody waits for the answer any more
- `tensorgate.draining`: bool, whether the process is about to stop
"""

import asyncio
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway import refusals
from gateway.admission import Admission
from gateway.deadline import Deadline
from gateway.head import Head
from gateway.metrics import Metrics
from gateway.pool import Pool
from gateway.refusals import Refusal
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.connection import Connection

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

OPERATIONS = frozenset({"/healthz", "/readyz"})
"""Answered by a thread of their own: a probe must not fail because the gateway is busy."""
OPERATIONS_PLACES = 16

logger = logging.getLogger("tensorgate.access")


@dataclass(frozen=True)
class Answer:
    """A whole answer to one request."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True)
class Peer:
    """Both ends of a connection."""

    caller: tuple[str, int]
    server: tuple[str, int]


@dataclass
class Call:
    """One whole request on its way through the pool."""

    head: Head
    body: bytes
    request_id: str
    started: float
    deadline: Deadline
    peer: Peer
    cancelled: threading.Event = field(default_factory=threading.Event)


class Shell:
    """One address's connections, places and pool in one worker.

    Args:
        settings: limits and times.
        application: a WSGI application, called in the pool's threads.
        metrics: what is counted.
    """

    def __init__(self, settings: Settings, application: Application, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.admission = Admission(settings)
        self.draining = False
        self.connections: set[Connection] = set()
        self._application = application
        self._pool = Pool(settings.threads, "request")
        self._operations = Pool(1, "operations")
        self._operations_in_flight = 0
        self._waiting: dict[Connection, None] = {}

    def start(self) -> None:
        """Start the threads."""
        self._pool.start()
        self._operations.start()

    def stop(self) -> None:
        """Cut what is left; the threads end after what they are doing."""
        for connection in tuple(self.connections):
            connection.cut()
        self._pool.stop()
        self._operations.stop()

    def opened(self, connection: "Connection") -> bool:
        """Count a new connection, cutting the one that has waited longest if there are too many.

        False when there is nothing to cut, since all the others are being served.
        """
        self.connections.add(connection)
        self.metrics.connections.inc()
        if len(self.connections) <= self.settings.max_connections:
            return True
        self.metrics.refused("connections")
        return self.cut_longest_waiting()

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self._waiting.pop(connection, None)
        self.metrics.connections.dec()

    def waits(self, connection: "Connection") -> None:
        """Note that from now a connection holds no whole request."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def works(self, connection: "Connection") -> None:
        """Note that a connection is being served, and not to be cut."""
        self._waiting.pop(connection, None)

    def cut_longest_waiting(self) -> bool:
        """Cut the connection that has waited longest for its caller; False if there is none."""
        victim = next(iter(self._waiting), None)
        if victim is None:
            return False
        victim.cut()
        return True

    def enter(self, call: Call, answered: Callable[[Answer], None]) -> Callable[[], None]:
        """Queue a request; `answered` is called on the event loop.

        The function that comes back gives its place up, and is to be called once.

        Raises:
            Refusal: no place is free.
        """
        loop = asyncio.get_running_loop()
        if call.head.path in OPERATIONS:
            pool, leave = self._operations, self._enter_operations()
        else:
            pool, leave = self._pool, self._enter_requests()

        def job() -> None:
            if call.cancelled.is_set():
                return
            answer = self._answer(call)
            try:
                loop.call_soon_threadsafe(answered, answer)
            except RuntimeError:
                logger.warning("the loop closed before an answer was ready")

        pool.submit(job)
        return leave

    def _enter_requests(self) -> Callable[[], None]:
        self.admission.enter()
        self.metrics.in_flight.inc()

        def leave() -> None:
            self.admission.leave()
            self.metrics.in_flight.dec()

        return leave

    def _enter_operations(self) -> Callable[[], None]:
        if self._operations_in_flight >= OPERATIONS_PLACES:
            raise refusals.overloaded()
        self._operations_in_flight += 1

        def leave() -> None:
            self._operations_in_flight -= 1

        return leave

    def _answer(self, call: Call) -> Answer:
        """Run the application; every failure is an answer. Runs in a thread of the pool."""
        if call.deadline.expired():
            return refuse(refusals.overdue(), call.request_id)
        try:
            return run_application(self._application, self._environ(call))
        except Exception:
            logger.exception(
                "the application failed", extra={"fields": {"request_id": call.request_id}}
            )
            return refuse(refusals.internal_error(), call.request_id)

    def _environ(self, call: Call) -> dict[str, Any]:
        environ = wsgi_environ(call)
        environ["tensorgate.deadline"] = call.deadline
        environ["tensorgate.request_id"] = call.request_id
        environ["tensorgate.queue_seconds"] = time.monotonic() - call.started
        environ["tensorgate.cancelled"] = call.cancelled
        environ["tensorgate.draining"] = self.draining
        return environ


def refuse(refusal: Refusal, request_id: str) -> Answer:
    """The answer that a refusal is."""
    headers = (("Content-Type", refusals.CONTENT_TYPE), *refusal.headers)
    return Answer(refusal.status, headers, refusal.body(request_id))


def wsgi_environ(call: Call) -> dict[str, Any]:
    """WSGI's own keys (PEP 3333), the whole body in memory.

    Names with an underscore are left out, as they would look like those with a hyphen, and so is
    Proxy, which would look like the variable HTTP_PROXY.
    """
    head = call.head
    environ: dict[str, Any] = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": head.path,
        "QUERY_STRING": head.query,
        "SERVER_NAME": call.peer.server[0],
        "SERVER_PORT": str(call.peer.server[1]),
        "SERVER_PROTOCOL": f"HTTP/{head.version[0]}.{head.version[1]}",
        "REMOTE_ADDR": call.peer.caller[0],
        "REMOTE_PORT": str(call.peer.caller[1]),
        "CONTENT_LENGTH": str(len(call.body)),
        "CONTENT_TYPE": head.header("content-type"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(call.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    left_out = {"content-length", "content-type", "transfer-encoding", "expect", "proxy"}
    for name, value in head.headers:
        if name in left_out or "_" in name:
            continue
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def run_application(application: Application, environ: dict[str, Any]) -> Answer:
    """Call a WSGI application and collect its whole answer."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], None]:
        started[:] = [(status, headers)]
        return written.append

    chunks = application(environ, start_response)
    try:
        written.extend(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    status, headers = started[0]
    return Answer(int(status[:3]), tuple(headers), b"".join(written))
