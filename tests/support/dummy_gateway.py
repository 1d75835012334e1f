"""A gateway process with an application that does what its path says, for tests of the server.

Run as `python -m tests.support.dummy_gateway`, set up by the same environment variables.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gateway.__main__ import start
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.metrics import Metrics
    from gateway.server.wsgi import Application

StartResponse = Callable[[str, list[tuple[str, str]]], object]


def make_application(metrics: "Metrics") -> "Application":
    """The application; /count counts a prediction."""

    def counting(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/count":
            metrics.request("clothing-model", 3, "ok")
            metrics.stage("decode", 0.002, "clothing-model", 3)
        return application(environ, start_response)

    return counting


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Say what was asked; /slow?0.5 takes half a second unless the caller hangs up."""
    body = environ["wsgi.input"].read()
    query = environ["QUERY_STRING"]
    cancelled = False
    if environ["PATH_INFO"] == "/slow":
        cancelled = environ["tensorgate.cancelled"].wait(float(query))
    if environ["PATH_INFO"] == "/stuck":
        time.sleep(float(query))
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return [b"x" * int(query)]
    if environ["PATH_INFO"] == "/broken":
        raise ZeroDivisionError
    draining = environ["PATH_INFO"] == "/readyz" and environ["tensorgate.draining"]
    answer = {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query": query,
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "request_id": environ["tensorgate.request_id"],
        "remaining": environ["tensorgate.deadline"].remaining(),
        "queue_seconds": environ["tensorgate.queue_seconds"],
        "draining": environ["tensorgate.draining"],
        "cancelled": cancelled,
        "process": os.getpid(),
        "headers": {name: value for name, value in environ.items() if name.startswith("HTTP_")},
    }
    start_response(
        "503 Service Unavailable" if draining else "200 OK", [("Content-Type", "application/json")]
    )
    return [json.dumps(answer).encode()]


def remove_guard(name: str) -> None:
    """Go without one of the guards, to see whether tests notice."""
    from tests.support.guards import GUARDS  # noqa: PLC0415 - only where it is asked for

    GUARDS[name].remove()


if __name__ == "__main__":
    if "WITHOUT_GUARD" in os.environ:
        remove_guard(os.environ["WITHOUT_GUARD"])
    start(Settings.from_environment(), make_application)
