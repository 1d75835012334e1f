"""Broken requests, sent to the real process and through HAProxy and nginx in front of it.

Whatever a proxy makes of one, what it smuggles never reaches the application, the connection to the
caller ends, and the next caller, whose request goes over the same connection from the proxy to the
gateway, gets its own answer.
"""

import contextlib
import itertools
import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.broken_requests import NAMES, load
from tests.support.processes import Address
from tests.support.proxies import program, proxy
from tests.support.server_process import (
    Caller,
    ServerProcess,
    assert_problem,
    get,
    metric,
    running,
    wait_until,
)

LIMITS: dict[str, object] = {
    "workers": 1,
    "threads": 2,
    "head_timeout": 0.5,
    "body_timeout": 0.5,
    "request_timeout": 1.5,
    "max_image_bytes": 64 * 1024,
    "max_json_bytes": 2048,
}
REFUSALS = {400, 403, 405, 408, 411, 413, 414, 415, 417, 422, 431, 501}
"""What the gateway or a proxy answers to what it does not take."""

ROWS = [pytest.param(name, marks=pytest.mark.case(*load(name).cases), id=name) for name in NAMES]
PROXIES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            program(name) is None,
            reason=f"{name} is not installed (on Debian and Ubuntu: apt-get install {package})",
        ),
    )
    for name, package in (("haproxy", "haproxy"), ("nginx", "nginx-light"))
]
number = itertools.count()


def ask_canary(server: ServerProcess, address: Address) -> list[str]:
    """Ask as a next caller, who must get its own answer; every path that the access log has."""
    path = f"/canary-{next(number)}"
    with Caller(address) as caller:
        answer = caller.ask(get(path))
    assert (answer.status, answer.json["path"]) == (200, path)
    wait_until(lambda: any(line.get("path") == path for line in server.lines))
    requests = [line for line in tuple(server.lines) if line["logger"] == "tensorgate.access"]
    return [str(line["path"]) for line in requests if line["path"]]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running(**LIMITS) as process:
        yield process


@pytest.mark.parametrize("name", ROWS)
def test_a_broken_request_is_refused_and_the_connection_ends(
    server: ServerProcess, name: str
) -> None:
    broken = load(name)
    with Caller(server.address) as caller:
        caller.send(broken.data)
        answer = caller.read()

        assert_problem(answer, broken.status, broken.slug)
        assert answer.headers["connection"] == "close"
        assert caller.closed()
    assert "/smuggled" not in ask_canary(server, server.address)


class Proxied(NamedTuple):
    server: ServerProcess
    address: Address


@pytest.fixture(scope="module", params=PROXIES)
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    directory = tmp_path_factory.mktemp("proxy")
    with running(**LIMITS) as server, proxy(request.param, server.address, directory) as address:
        yield Proxied(server, address)


@pytest.mark.parametrize("name", ROWS)
def test_behind_a_proxy_nothing_is_smuggled_to_the_application(proxied: Proxied, name: str) -> None:
    broken = load(name)
    before = len(ask_canary(*proxied))

    answered = all_answers(proxied.address, broken.data)

    paths = ask_canary(*proxied)[before:-1]
    assert "/smuggled" not in paths
    assert len(paths) <= 1
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", answered)]
    refused = statuses[:1] == [] or statuses[0] in REFUSALS
    assert refused or (broken.repaired and statuses[0] == 200), answered


def all_answers(address: Address, data: bytes) -> bytes:
    """All that comes back until the other side ends the connection."""
    answered = b""
    with socket.create_connection(address, timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(1 << 16):
                answered += data
    return answered


def test_a_proxy_lets_the_path_of_smuggled_requests_through_for_nobody(proxied: Proxied) -> None:
    with Caller(proxied.address) as caller:
        caller.send(get("/smuggled"))
        assert caller.read().status == 403
    assert "/smuggled" not in ask_canary(*proxied)


def test_a_smuggled_request_would_be_seen(server: ServerProcess) -> None:
    with Caller(server.address) as caller:
        caller.ask(get("/seen"))
    assert "/seen" in ask_canary(server, server.address)


def test_a_proxy_uses_a_connection_to_the_gateway_for_the_next_caller(proxied: Proxied) -> None:
    """Else nothing could be left behind on one, and no answer go to somebody else."""
    ask_canary(*proxied)
    before = metric(proxied.server, "tensorgate_connections")
    for _ in range(5):
        ask_canary(*proxied)
    assert 0 < metric(proxied.server, "tensorgate_connections") <= before
