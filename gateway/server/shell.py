"""One listening address in one worker: its connections, its places, its threads.

Everything here but the application runs on the event loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.access import Access
from gateway.admission import OPERATIONS, Admission
from gateway.metrics import ServerMetrics
from gateway.server import refusals, wsgi
from gateway.server.answers import Answer, of_refusal
from gateway.server.pool import Pool
from gateway.server.wsgi import Application, Call
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.server.connection import Connection

logger = logging.getLogger("tensorgate.server")


class Shell:
    """Connections and requests of one address.

    Args:
        settings: limits and times.
        application: a WSGI application, called in the pool's threads.
        metrics: what is counted.
        connections_changed: told the number of connections whenever it changes.
        access: who may call and how often; None is anybody, always.
    """

    def __init__(
        self,
        settings: Settings,
        application: Application,
        metrics: ServerMetrics,
        connections_changed: Callable[[int], object] = lambda _open: None,
        access: Access | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self._connections_changed = connections_changed
        self.admission = Admission(settings, metrics.in_flight)
        self.access = access or Access()
        self.draining = False
        self.connections: set[Connection] = set()
        self._application = application
        self._pool = Pool(settings.threads, "request")
        self._operations = Pool(1, "operations")
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

    def close_idle(self) -> None:
        """Close the connections that have no request on them."""
        for connection in tuple(self._waiting):
            connection.close_if_idle()

    @property
    def finished(self) -> bool:
        """Whether nobody is left who may still be answered."""
        return all(connection.finished for connection in self.connections)

    # Connections

    def opened(self, connection: "Connection") -> bool:
        """Count a new connection, cutting the one that has waited longest if there are too many.

        False when there is none to cut, since all the others are being served.
        """
        self.connections.add(connection)
        self._count_connections()
        if len(self.connections) <= self.settings.max_connections:
            return True
        return self.cut_longest_waiting()

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self._waiting.pop(connection, None)
        self._count_connections()

    def _count_connections(self) -> None:
        self.metrics.connections(len(self.connections))
        self._connections_changed(len(self.connections))

    def waits(self, connection: "Connection") -> None:
        """Note that a connection has begun to wait for its caller."""
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
        self.metrics.refused("connections")
        victim.cut()
        return True

    # Requests

    def enter(self, call: Call, answered: Callable[[Answer], None]) -> Callable[[], None]:
        """Queue a request; `answered` is called on the event loop.

        The function that comes back gives the place up and, if the request still waits, takes it
        out of the queue: bodies that nobody accounts for any more must not pile up there. It is
        called once.

        Raises:
            Refusal: no place is free.
        """
        places = self.admission.places(call.head.path)
        places.enter()
        loop = asyncio.get_running_loop()

        def job() -> None:
            if not call.cancelled.is_set():
                answer = self._answer(call)
                if not loop.is_closed():
                    loop.call_soon_threadsafe(answered, answer)

        pool = self._operations if call.head.path in OPERATIONS else self._pool
        pool.submit(job)

        def leave() -> None:
            pool.withdraw(job)
            places.leave()

        return leave

    def _answer(self, call: Call) -> Answer:
        """Run the application in a thread of the pool; every failure is an answer."""
        if call.deadline.expired():
            return of_refusal(refusals.overdue(), call.request_id)
        try:
            environ = wsgi.environ_of(call, time.monotonic(), draining=self.draining)
            return wsgi.run(self._application, environ)
        except Exception:
            fields = {"request_id": call.request_id}
            logger.exception("the application failed", extra={"fields": fields})
            return of_refusal(refusals.internal_error(), call.request_id)
