"""Slow callers cost sockets, not threads: hundreds of each sort beside one healthy client."""

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.server_process import (
    Caller,
    get,
    metric,
    post,
    running,
    wait_until,
)

EACH = 500
TIMEOUT = 3.0
MARGIN = 3.0
"""Seconds by which a busy machine may be late."""
UNREAD = 300 * 1024

SORTS = {
    "idle": b"",
    "one byte of a head": b"G",
    "a byte of a head now and then": b"G",
    "half a body": post("/predict", b"{}" * 50)[:-50],
    "an answer unread": get(f"/large?{UNREAD}"),
}


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(SORTS) * EACH + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def attack(address: tuple[str, int], stack: contextlib.ExitStack) -> list[socket.socket]:
    """Open all the slow connections; the ones that drip go on doing so until they are cut."""
    dripping = []
    for sort, first in SORTS.items():
        for _ in range(EACH):
            opened = stack.enter_context(socket.socket())
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.settimeout(10)
            opened.connect(address)
            opened.sendall(first)
            if sort.startswith("a byte"):
                dripping.append(opened)
    return dripping


@contextlib.contextmanager
def drip(sockets: list[socket.socket]) -> Iterator[None]:
    """Send each a byte of a method every half second, on the side."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.5):
            for opened in sockets:
                with contextlib.suppress(OSError):
                    opened.sendall(b"E")

    dripper = threading.Thread(target=send)
    dripper.start()
    try:
        yield
    finally:
        stop.set()
        dripper.join()


@pytest.mark.case("E11")
@pytest.mark.parametrize("max_connections", [4000, 1000])
def test_a_healthy_client_is_served_beside_slow_ones_and_those_are_cut(
    max_connections: int,
) -> None:
    settings: dict[str, object] = {
        "workers": 1,
        "threads": 2,
        "head_timeout": TIMEOUT,
        "body_timeout": TIMEOUT,
        "answer_timeout": TIMEOUT,
        "max_connections": max_connections,
        "max_in_flight": 1000,
    }
    with running(**settings) as server, contextlib.ExitStack() as stack:
        address = server.address
        dripping = attack(address, stack)
        stack.enter_context(drip(dripping))
        opened = time.monotonic()
        statuses = []
        with Caller(address) as healthy:
            while time.monotonic() < opened + TIMEOUT - 1:
                statuses.append(healthy.ask(post("/predict", b"{}")).status)
        wait_until(lambda: metric(server, "tensorgate_connections") == 0, TIMEOUT + MARGIN)

        assert set(statuses) == {200}
        assert len(statuses) > 20
        with Caller(address) as late:
            assert late.ask(get("/")).status == 200
