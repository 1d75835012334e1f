"""What a load's request is answered when it is sent once, and what all its answers show."""

import contextlib
import socket
from collections.abc import Callable, Mapping

import requests

from tests.support.load import Load, Report
from tests.support.load_client import Request

VERSION = "X-Model-Version"

ASKING = ("127.0.0.2", 0)
"""Where questions come from that may be refused. For a minute or two the kernel remembers that a
connection was led to no pod, and would refuse another one from the same address and port."""


def takes_connections(address: tuple[str, int]) -> bool:
    """Whether somebody takes a connection there."""
    with contextlib.suppress(OSError), socket.create_connection(address, 5, ASKING):
        return True
    return False


def predict(request: Request) -> requests.Response:
    """Send it once, in words of another client."""
    host, port = request.address
    url = f"http://{host}:{port}{request.path}"
    return requests.post(url, request.body, headers=dict(request.headers), timeout=30)


def answered_by(request: Request, version: str) -> Callable[[], bool]:
    """Whether a version of the model answers now."""
    return lambda: predict(request).headers.get(VERSION) == version


def finish(load: Load) -> Report:
    """What a load has shown, printed.

    Raises:
        AssertionError: it was of too few requests to show anything.
    """
    report = load.report()
    print(report)
    report.check()
    return report


def versions_seen(load: Load, right: Mapping[str, bytes]) -> list[str]:
    """The version of each answer, in the order of the answers.

    Args:
        load: one that keeps bodies and the version's header.
        right: the one body that each version answers.

    Raises:
        AssertionError: an answer is not wholly its version's.
    """
    seen = [answer.headers.get(VERSION, "") for answer in load.answers]
    for answer, version in zip(load.answers, seen, strict=True):
        assert answer.body == right[version], f"an answer that is not version {version}'s"
    return seen
