"""`python -m gateway`: the gateway, set up from environment variables alone."""

import contextlib
import fcntl
import importlib
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.model_client.guards import Circuit, Guards
from gateway.model_client.tls import ClientTls
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.first_start import FirstStart
from gateway.settings import InvalidSetting, Settings

if TYPE_CHECKING:
    from gateway.metrics import Metrics
    from gateway.server.wsgi import Application

PACKAGES = (
    *("PIL", "dns", "flask", "google", "grpc"),
    *("gunicorn", "multipart", "numpy", "prometheus_client", "werkzeug"),
)
"""What the gateway imports from elsewhere, most of it only after the fork."""
METRICS_DIRECTORY = "tensorgate-metrics-"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - each use makes a directory of its own
BACKLOG = 2048
SEND_BUFFER = 64 * 1024
"""Asked of the kernel for each connection: what an unread answer may hold there."""


class CannotListen(Exception):
    """An address cannot be listened on; the message is one sentence."""


def main() -> int:
    """Serve until a signal ends it; the answer is the process's exit code."""
    if len(sys.argv) > 1:
        print(
            f"tensorgate: the gateway takes no arguments ({sys.argv[1]!r}): its settings are"
            " environment variables, such as BIND=127.0.0.1:9696; docs/settings.md lists them.",
            file=sys.stderr,
        )
        return 2
    lacking = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if lacking:
        print(
            f"tensorgate: this Python ({sys.executable}) has no {', '.join(lacking)}: use"
            " .venv/gateway/bin/python, which `make run` makes, or install"
            " dependencies/gateway.txt for this one.",
            file=sys.stderr,
        )
        return 2
    try:
        settings = Settings.from_environment()
        budget = DecodeBudget(settings.decode_memory)
        guards = Guards(
            settings.models, settings.workers * settings.threads, settings.circuit_min_time
        )
        make_application = partial(
            _create_application, settings, budget, FirstStart(), guards, _client_tls(settings)
        )
        start(settings, make_application, budget, guards.circuits)
    except InvalidSetting as error:
        print(f"tensorgate: {error}", file=sys.stderr)
        return 2
    except CannotListen as error:
        print(f"tensorgate: {error}", file=sys.stderr)
        return 1
    return 0


def _client_tls(settings: Settings) -> ClientTls | None:
    """What encrypts calls to TensorFlow Serving, where anything does."""
    if settings.tf_serving_tls is None:
        return None
    (first_host, _), *_ = settings.tf_serving_host
    return ClientTls(settings.tf_serving_tls, settings.tf_serving_name or first_host)


def _create_application(
    settings: Settings,
    budget: DecodeBudget,
    first_start: FirstStart,
    guards: Guards,
    tls: ClientTls | None,
    metrics: "Metrics",
) -> "Application":
    """A worker's own application; imported after the fork, so that the master stays small."""
    app = importlib.import_module("gateway.app")
    parts = app.assemble(settings, metrics, budget, first_start, guards, tls)
    parts.start()
    application: Application = app.create_app(settings, parts)
    return application


def start(
    settings: Settings,
    make_application: Callable[["Metrics"], "Application"],
    budget: DecodeBudget | None = None,
    circuits: Sequence[Circuit] = (),
) -> None:
    """Listen, fork the workers, and stay until they have ended.

    Args:
        settings: everything that can be told.
        make_application: given its Metrics, makes a worker's own WSGI application after the fork.
        budget: memory for decoding that the workers share.
        circuits: what ends calls of the models while nothing answers them.
    """
    listeners = listen(settings.bind, "BIND"), listen(settings.metrics_bind, "METRICS_BIND")
    with metrics_directory() as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        # Only now: prometheus_client reads the variable when it is imported.
        worker = importlib.import_module("gateway.server.worker")
        worker.serve(worker.Plan(settings, listeners, make_application, budget, circuits))


def listen(address: tuple[str, int], variable: str) -> socket.socket:
    """A listening socket, shared by all workers.

    Raises:
        CannotListen: the port is taken, or the address is not one of this machine's.
    """
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        both = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            address, family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        return listener
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(
            f"cannot listen on {host}:{port} ({reason}): "
            f"stop what listens there, or set {variable} to another address."
        ) from error


@contextlib.contextmanager
def metrics_directory() -> Iterator[Path]:
    """A directory of this process's own where the workers' numbers meet, in memory if possible.

    It is locked while it is in use, so that those which a killed process left can be told apart
    and removed.
    """
    owner = os.getpid()
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for left in parent.glob(METRICS_DIRECTORY + "*"):
        _remove_unused(left)
    directory = Path(tempfile.mkdtemp(prefix=METRICS_DIRECTORY, dir=parent))
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            if os.getpid() == owner:  # a forked worker leaves through here too
                shutil.rmtree(directory, ignore_errors=True)


def _remove_unused(directory: Path) -> None:
    with contextlib.suppress(OSError), (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
