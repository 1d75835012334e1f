"""The worker processes: gunicorn forks, restarts and stops them; the event loop in each is ours.

gunicorn's asyncio worker brings the loop, the signals and the heartbeat. Where it would hand a
socket to its ASGI protocol, this one hands it to `gateway/server/connection.py`.
"""

import asyncio
import contextlib
import dataclasses
import logging
import math
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gasgi import ASGIWorker

from gateway import audit, logs
from gateway.access import Access
from gateway.metrics import (
    Exposition,
    MeasuredBudget,
    MeasuredCircuit,
    Metrics,
    Uncounted,
    forget_process,
)
from gateway.server.connection import Connection
from gateway.server.listeners import Board, Listener, refuse_newcomers
from gateway.server.shell import Shell
from gateway.server.wsgi import Application
from gateway.settings import Settings

KILL_MARGIN = 5
"""Seconds after the drain's end at which a worker that has not ended is killed."""
QUIET_SECONDS = 5.0
"""How long a drain lets connections stay that have no request on them.

A caller that pauses for less is told by its next answer's `Connection: close` and loses nothing.
"""
HANDSHAKE_SECONDS = 0.2
"""How long connections that are being made when a drain begins are given to be made."""
SPARE_DESCRIPTORS = 512
HEEDED_WHEN_ENDING = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD})
"""What the master still heeds after SIGTERM; to reload, for one, could last beyond the delay."""

logger = logging.getLogger("tensorgate.server")


@dataclass(frozen=True)
class Plan:
    """What the master makes before it forks, for all workers.

    make_application makes a worker's own WSGI application, given its Metrics, after the fork.
    """

    settings: Settings
    listeners: tuple[socket.socket, socket.socket]
    make_application: Callable[[Metrics], Application]
    budget: MeasuredBudget | None = None
    circuits: Sequence[MeasuredCircuit] = ()


class GatewayWorker(ASGIWorker):  # type: ignore[misc]
    """One worker process; `slot` is its place on the board, given by the master."""

    slot = 0
    early_signals: SimpleQueue[int]
    masters_signals = 0
    """How many of the early ones came before the fork, to the master."""

    def load_wsgi(self) -> None:
        """Make this process's own parts, after the fork."""
        plan: Plan = self.app.plan
        self._settings = settings = plan.settings
        self._metrics = metrics = Metrics(settings.models)
        application = plan.make_application(metrics)
        write = partial(self.app.board.write, self.slot)
        self._callers = Shell(settings, application, metrics, write, self.app.access)
        narrow = dataclasses.replace(settings, threads=1, max_connections=32, max_in_flight=8)
        self._readers = Shell(narrow, Exposition(metrics, plan.budget, plan.circuits), Uncounted())
        self._stopping = asyncio.Event()
        allow_descriptors(settings.max_connections + SPARE_DESCRIPTORS)

    def handle_exit_signal(self) -> None:
        """SIGTERM: answer what is there, then end."""
        super().handle_exit_signal()
        self._stopping.set()

    def handle_quit_signal(self) -> None:
        """SIGQUIT or SIGINT: end now."""
        super().handle_quit_signal()
        self._stopping.set()

    def handle_winch_signal(self) -> None:
        """SIGWINCH: look at the board. A terminal sends it too, with nothing on the board."""
        if self.app.board.ending:
            self._callers.draining = True

    def run(self) -> None:
        """Serve, then end at once: threads that are still at work have nobody to answer."""
        super().run()
        logging.shutdown()
        os._exit(0)

    def _catch_up_on_signals(self) -> None:
        """Heed what arrived between the fork and this process's own signal handlers.

        Until then the handlers are the master's, which put it into their own queue and forget it.
        """
        for _ in range(self.masters_signals):
            self.early_signals.get()
        while not self.early_signals.empty():
            number = self.early_signals.get()
            if number == signal.SIGTERM:
                self.handle_exit_signal()
            elif number in {signal.SIGINT, signal.SIGQUIT}:
                self.handle_quit_signal()

    async def _serve(self) -> None:
        self._catch_up_on_signals()
        self._callers.draining = self.app.board.ending
        self._callers.start()
        self._readers.start()
        callers, readers = (listener.sock for listener in self.sockets)
        listener = Listener(
            callers,
            lambda: Connection(self._callers),
            give_way=partial(self.app.board.another_has_fewer, self.slot),
            exhausted=self._callers.cut_longest_waiting,
        )
        listener.open()
        Listener(readers, lambda: Connection(self._readers)).open()
        while self.alive and self.ppid == os.getppid():
            await self._beat(1.0)
        if not self._quick_shutdown:
            await self._drain(listener)
        audit.flush()
        self._callers.stop()
        self._readers.stop()

    async def _beat(self, seconds: float) -> None:
        """Tell the master that this process lives, and wait, though not for a stop."""
        self.notify()
        self.app.access.refresh()
        self._metrics.api_keys_broken(self.app.access.keys_broken)
        audit.flush()
        logs.flush()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _drain(self, listener: Listener) -> None:
        """Answer what has come and what still comes on open connections; take no new ones.

        Every answer says `Connection: close` from here on. A connection without a request stays
        for a while, because its caller may be sending one.
        """
        self._callers.draining = True
        await asyncio.sleep(HANDSHAKE_SECONDS)
        listener.close()
        begun = self.loop.time()
        quiet = min(QUIET_SECONDS, self._settings.drain_timeout)
        while self.loop.time() < begun + self._settings.drain_timeout:
            self.notify()
            self.app.access.refresh()
            await asyncio.sleep(0.05)
            if self._callers.finished or self._quick_shutdown:
                return
            if self.loop.time() >= begun + quiet:
                self._callers.close_idle()
        logger.warning("the drain ends with %d connections open", len(self._callers.connections))


class Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master process, which sees to it that no caller is reset when it stops."""

    _stop_at = math.inf

    def handle_term(self) -> None:
        """SIGTERM: have the workers say that they end, and stop them DRAIN_DELAY from now.

        Until then all goes on: callers are taken, and a worker that dies is replaced.
        """
        delay = self.app.plan.settings.drain_delay
        self._stop_at = time.monotonic() + delay
        self.app.board.end()
        self.kill_workers(signal.SIGWINCH)
        if delay:
            logger.info("new connections are still taken for %g s", delay)

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """The signals that have come; StopIteration, which ends gunicorn's loop, when it is time.

        After SIGTERM another one changes nothing. Workers that are forked later begin with the
        keys that are known here.
        """
        self.app.access.refresh()
        left = self._stop_at - time.monotonic()
        if left <= 0:
            raise StopIteration
        signals: list[int] = super().wait_for_signals(min(timeout, left))
        if self.app.board.ending:
            return [number for number in signals if number in HEEDED_WHEN_ENDING]
        return signals

    def stop(self, graceful: bool = True) -> None:
        """Refuse new callers, then let the workers answer those who are there."""
        for listener in self.LISTENERS:
            refuse_newcomers(listener.sock)
        super().stop(graceful)


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, set up from our settings alone."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.board = Board(2 * plan.settings.workers + 2)
        self.access = Access.from_settings(plan.settings)
        self._bind = [f"fd://{listener.detach()}" for listener in plan.listeners]
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what it needs to know."""
        settings = self.plan.settings
        for name, value in {
            "bind": self._bind,
            "workers": settings.workers,
            "worker_class": GatewayWorker,
            "worker_tmp_dir": shared_memory_directory(),
            "graceful_timeout": math.ceil(settings.drain_timeout) + KILL_MARGIN,
            "control_socket_disable": True,
            "asgi_loop": "asyncio",
            "loglevel": settings.log_level,
            "logger_class": logs.ServerLog,
            "proc_name": "tensorgate",
            "pre_fork": self._before_fork,
            "post_fork": self._after_fork,
            "child_exit": self._after_end,
        }.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Run the master process until it is told to stop."""
        Master(self).run()

    def load(self) -> None:
        """Nothing: each worker makes its own application."""

    def _before_fork(self, master: Any, worker: GatewayWorker) -> None:
        worker.slot = self.board.take()
        worker.masters_signals = master.SIG_QUEUE.qsize()

    def _after_fork(self, master: Any, worker: GatewayWorker) -> None:
        worker.early_signals = master.SIG_QUEUE

    def _after_end(self, _server: object, worker: GatewayWorker) -> None:
        self.board.free(worker.slot)
        forget_process(worker.pid)


def serve(plan: Plan) -> None:
    """Fork the workers and stay until they have ended."""
    logs.configure(plan.settings.log_level)
    address, metrics_address = (_address(listener) for listener in plan.listeners)
    fields = {"address": address, "metrics_address": metrics_address}
    logger.info("listening", extra={"fields": fields})
    Server(plan).run()


def _address(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shared_memory_directory() -> str | None:
    """Where small files live in memory, or None where there is no such place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def allow_descriptors(needed: int) -> None:
    """Raise this process's soft limit of open files, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
