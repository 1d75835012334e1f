"""Starts the server, waits, and drains."""

import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from model.server.assembly import Parts, assemble, models_config
from model.server.errors import ServingError, invalid
from model.server.flags import Flags
from model.server.rest import RestServer

log = logging.getLogger("model.server")

DRAIN_SECONDS = 30.0
"""How long requests under way may take after SIGTERM."""

FAILED = 1


def main(flags: Flags) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    stopping = _handle_signals(flags)
    # What the imports made stays: later collections, one after each unload, need not look at it.
    gc.freeze()
    try:
        parts = assemble(flags)
        status = _serve(flags, parts, stopping)
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr, flush=True)
        status = FAILED
    # A load that is under way or waits to be tried again must not hold up the end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _Stopping:
    """SIGTERM and SIGINT: before the ports are open they end the process, later they drain it.

    The system may hand a signal to any thread. Python handles it in the main one, but does not wake
    it from the wait for an event, so the wait is for the byte that Python writes on each signal.
    """

    def __init__(self) -> None:
        self.serving = False
        self.asked = threading.Event()
        self._woken, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)

    def wait(self) -> None:
        """Return once a signal has asked to stop; of the main thread only."""
        while not self.asked.is_set():
            self._woken.recv(1)

    def __call__(self, number: int, _frame: Any) -> None:
        if not self.serving:
            # Not logged: the signal may have come in the middle of a line of the log.
            os.write(2, b"Stopped before the ports were open.\n")
            os._exit(128 + number)
        self.asked.set()


def _handle_signals(flags: Flags) -> _Stopping:
    stopping = _Stopping()
    signal.signal(signal.SIGINT, stopping)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if flags.ignore_sigterm else stopping)
    return stopping


def _serve(flags: Flags, parts: Parts, stopping: _Stopping) -> int:
    if parts.scheduler is not None:
        parts.scheduler.start()
    parts.core.start(models_config(flags))
    _watch_config(flags, parts, stopping.asked)
    stopping.serving = True
    ports = parts.grpc.start()
    log.info("Running gRPC ModelServer at %s:%d ...", flags.host, ports[0])
    if parts.rest is not None:
        _start_rest(parts.rest, flags)
    stopping.wait()
    log.info("Stopping: requests under way have %g s to end.", DRAIN_SECONDS)
    _drain(parts)
    log.info("Stopped.")
    return 0


def _start_rest(rest: RestServer, flags: Flags) -> None:
    try:
        rest.start()
    except OSError as error:
        invalid(
            f"Failed to start HTTP Server at {flags.host}:{flags.rest_api_port}: {error.strerror}"
        )
    log.info("Exporting HTTP/REST API at:%s:%d ...", flags.host, flags.rest_api_port)


def _drain(parts: Parts) -> None:
    """Let both fronts end at once. What else runs ends with the process."""
    stops: list[Callable[[float], None]] = [parts.grpc.stop]
    if parts.rest is not None:
        stops.append(parts.rest.stop)
    threads = [threading.Thread(target=stop, args=(DRAIN_SECONDS,)) for stop in stops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _watch_config(flags: Flags, parts: Parts, stopping: threading.Event) -> None:
    """Reload the model config file again and again, where that is asked for."""
    seconds = flags.model_config_file_poll_wait_seconds
    if not flags.model_config_file or seconds <= 0:
        return

    def watch() -> None:
        while not stopping.wait(seconds):
            _reload(flags, parts)

    threading.Thread(target=watch, name="config-poll", daemon=True).start()


def _reload(flags: Flags, parts: Parts) -> None:
    try:
        parts.core.reload(models_config(flags))
    except ServingError as error:
        log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error.message)
