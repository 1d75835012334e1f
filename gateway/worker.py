"""The worker processes: gunicorn forks, restarts and stops them; the event loop in each is ours.

gunicorn's asyncio worker brings the loop, the signals and the heartbeat. Where it would hand a
socket to its ASGI protocol, this one hands it to `gateway/connection.py`.
"""

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.gasgi import ASGIWorker

from gateway import logs
from gateway.connection import Connection
from gateway.metrics import Exposition, Metrics, forget_process
from gateway.server import Application, Shell
from gateway.settings import Settings

BACKLOG = 2048
KILL_MARGIN = 5
"""Seconds after the drain's end at which a worker that has not ended is killed."""
QUIET_SECONDS = 5.0
"""A connection without a request is closed once a drain has gone on for this long.

A caller that pauses for less is told by its next answer's `Connection: close` and loses nothing.
"""
SPARE_DESCRIPTORS = 512

logger = logging.getLogger("tensorgate.server")


class GatewayWorker(ASGIWorker):  # type: ignore[misc]
    """One worker process."""

    shell: Shell

    def load_wsgi(self) -> None:
        """Make this process's own application, after the fork."""
        server: Server = self.app
        settings = server.settings
        metrics = Metrics(settings.models)
        self.shell = Shell(settings, server.make_application(metrics), metrics)
        self.metrics_shell = Shell(settings, Exposition(metrics), metrics)
        self.stopping = asyncio.Event()
        allow_descriptors(settings.max_connections + SPARE_DESCRIPTORS)

    def handle_exit_signal(self) -> None:
        """SIGTERM: answer what is there, then end."""
        super().handle_exit_signal()
        self.stopping.set()

    def handle_quit_signal(self) -> None:
        """SIGQUIT or SIGINT: end now."""
        super().handle_quit_signal()
        self.stopping.set()

    def run(self) -> None:
        """Serve, then end at once: threads that are still at work have nobody to answer."""
        super().run()
        logging.shutdown()
        os._exit(0)

    async def _serve(self) -> None:
        listeners = [listener.sock for listener in self.sockets]
        for shell, listener in zip((self.shell, self.metrics_shell), listeners, strict=True):
            shell.start()
            Acceptor(self.loop, listener, shell)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 1.0)
        self.shell.stop()


class Acceptor:
    """Takes connections from a listening socket that several processes share."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, shell: Shell
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._shell = shell
        self._tasks: set[asyncio.Task[Any]] = set()
        listener.setblocking(False)
        loop.add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connected = self._loop.connect_accepted_socket(lambda: Connection(self._shell), accepted)
        task = self._loop.create_task(connected)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, set up from our settings alone."""

    def __init__(
        self,
        settings: Settings,
        listeners: list[socket.socket],
        make_application: Callable[[Metrics], Application],
    ) -> None:
        self.settings = settings
        self.make_application = make_application
        self._listeners = listeners
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what it needs to know."""
        settings = self.settings
        for name, value in {
            "bind": [f"fd://{listener.detach()}" for listener in self._listeners],
            "backlog": BACKLOG,
            "workers": settings.workers,
            "worker_class": GatewayWorker,
            "worker_tmp_dir": shared_memory_directory(),
            "graceful_timeout": int(settings.drain_timeout) + KILL_MARGIN,
            "control_socket_disable": True,
            "asgi_loop": "asyncio",
            "loglevel": settings.log_level,
            "logger_class": logs.ServerLog,
            "proc_name": "tensorgate",
            "child_exit": lambda _server, worker: forget_process(worker.pid),
        }.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """Nothing: each worker makes its own application."""


def serve(
    settings: Settings,
    listeners: list[socket.socket],
    make_application: Callable[[Metrics], Application],
) -> None:
    """Fork the workers and stay until they have ended.

    Args:
        settings: everything that can be told.
        listeners: where callers come in, and where /metrics is.
        make_application: makes a worker's own WSGI application after the fork.
    """
    logs.configure(settings.log_level)
    address, metrics_address = (_address(listener) for listener in listeners)
    fields = {"address": address, "metrics_address": metrics_address}
    logger.info("listening", extra={"fields": fields})
    Server(settings, listeners, make_application).run()


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
