"""The REST port over sockets: how requests are framed, bounded and drained."""

import contextlib
import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from model.server import rest
from model.server.metrics import Metrics
from model.server.rest import RestServer
from tests.support.fake_core import FakeCore, WaitingCore
from tests.support.serving_reference import row

ROWS = b'{"instances": [1.0, 2.5]}'
PREDICT = "/v1/models/hat:predict"


@contextlib.contextmanager
def serving(core: FakeCore, threads: int = 4, max_body_bytes: int = 10**6) -> Iterator[RestServer]:
    server = RestServer(
        core, Metrics(), "127.0.0.1", 0, threads=threads, max_body_bytes=max_body_bytes
    )
    server.start()
    try:
        yield server
    finally:
        server.stop(5)


@contextlib.contextmanager
def connected(server: RestServer) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, 10)) as connection:
        yield connection


def raw(server: RestServer, data: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="module")
def server() -> Iterator[RestServer]:
    with serving(FakeCore(), max_body_bytes=100_000) as running:
        yield running


def test_a_connection_is_kept_for_further_requests(server: RestServer) -> None:
    with connected(server) as connection:
        connection.connect()
        own = connection.sock
        for body, status in ((ROWS, 200), (b"", 400), (ROWS, 200)):
            connection.request("POST", PREDICT, body)
            response = connection.getresponse()
            assert response.status == status
            assert response.headers["Content-Type"] == "application/json"
            assert response.read().endswith(b"\n}")
            assert connection.sock is own


def test_requests_may_come_one_right_behind_the_other(server: RestServer) -> None:
    one = b"GET /v1/models/hat HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert raw(server, one + one + last).count(b"HTTP/1.1 200 OK\r\n") == 2


def test_an_old_client_is_answered_and_let_go(server: RestServer) -> None:
    reply = raw(server, b"GET /v1/models/hat HTTP/1.0\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in reply


def test_bodies_may_come_in_chunks_and_zipped(server: RestServer) -> None:
    with connected(server) as connection:
        connection.request("POST", PREDICT, iter([ROWS[:5], ROWS[5:]]), encode_chunked=True)
        assert json.loads(connection.getresponse().read()) == {"predictions": [1.0, 2.5]}
        headers = {"Content-Encoding": "gzip"}
        connection.request("POST", PREDICT, gzip.compress(ROWS), headers)
        response = connection.getresponse()
        assert response.status == row("rest.gzip-request").rest_code
        assert json.loads(response.read()) == {"predictions": [1.0, 2.5]}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 100001", 413),
        (b"Content-Length: 100001\r\nExpect: 100-continue", 413),
        (b"Content-Length: -1", 400),
        (b"Content-Length: " + b"9" * 5000, 400),
        (b"Content-Length: 1\r\nContent-Length: 2", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 1", 400),
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n186A1\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: 1\r\n" * 101, 431),
        (b"X: " + b"x" * 70_000, 431),
        (b"\r\n".join(b"X%d: 1" % number for number in range(101)), 431),
    ],
)
def test_what_cannot_be_framed_or_is_too_large_is_refused_and_closed(
    server: RestServer, head: bytes, status: int
) -> None:
    reply = raw(server, b"POST " + PREDICT.encode() + b" HTTP/1.1\r\n" + head + b"\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in reply


def test_a_caller_that_sends_too_much_hears_so(server: RestServer) -> None:
    with connected(server) as connection:
        connection.request("POST", PREDICT, bytes(5_000_000))
        assert connection.getresponse().status == 413


def test_a_body_that_is_awaited_is_asked_for(server: RestServer) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n"
    data = f"{head}Content-Length: {len(ROWS)}\r\n\r\n".encode() + ROWS
    assert raw(server, data).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("method", "status"), [("TRACE", 501), ("HEAD", 400), ("PATCH", 400)])
def test_methods_are_those_that_tensorflow_serving_lets_in(
    server: RestServer, method: str, status: int
) -> None:
    with connected(server) as connection:
        connection.request(method, "/v1/models/hat")
        response = connection.getresponse()
        assert response.status == status
        assert bool(response.read()) is (method != "HEAD")


def test_no_more_requests_are_answered_at_once_than_there_are_threads() -> None:
    core = WaitingCore()
    with serving(core, threads=2) as server, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(server)) for _ in range(4)]
        for connection in connections:
            connection.request("POST", PREDICT, ROWS)
        for _ in range(2):
            assert core.arrived.acquire(timeout=10)
        assert len(core.asked) == 2
        core.go_on.set()
        assert [connection.getresponse().status for connection in connections] == [200] * 4


def test_callers_without_a_request_hold_up_nobody() -> None:
    with serving(FakeCore(), threads=1) as server, contextlib.ExitStack() as stack:
        for _ in range(50):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
            silent.sendall(b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        with connected(server) as connection:
            connection.request("POST", PREDICT, ROWS)
            assert connection.getresponse().status == 200


def test_a_caller_that_falls_silent_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest._Connection, "timeout", 0.2)
    with serving(FakeCore()) as server:
        assert raw(server, b"POST /v1/models/hat:predict HTTP/1.1\r\nContent-Len") == b""
        assert (
            raw(server, b"POST /v1/models/hat:predict HTTP/1.1\r\nContent-Length: 9\r\n\r\n") == b""
        )


def test_stopping_answers_what_is_under_way_and_ends_idle_connections() -> None:
    core = WaitingCore()
    with serving(core) as server, connected(server) as busy, connected(server) as idle:
        idle.request("GET", "/nowhere")
        assert idle.getresponse().read()
        busy.request("POST", PREDICT, ROWS)
        assert core.arrived.acquire(timeout=10)
        stopping = threading.Thread(target=server.stop, args=(30,))
        stopping.start()
        assert idle.sock.recv(1) == b""
        core.go_on.set()
        response = busy.getresponse()
        assert response.status == 200
        assert response.headers["Connection"] == "close"
        stopping.join(10)
        assert not stopping.is_alive()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 10)


def test_stopping_does_not_wait_for_longer_than_its_grace() -> None:
    core = WaitingCore()
    with serving(core) as server, connected(server) as busy:
        busy.request("POST", PREDICT, ROWS)
        assert core.arrived.acquire(timeout=10)
        server.stop(0.1)
        core.go_on.set()
        with pytest.raises((http.client.HTTPException, OSError)):
            busy.getresponse()


def test_all_addresses_of_both_families_are_listened_on() -> None:
    server = RestServer(FakeCore(), Metrics(), "", 0, threads=1)
    server.start()
    try:
        with connected(server) as connection:
            connection.request("GET", "/v1/models/hat")
            assert connection.getresponse().status == 200
    finally:
        server.stop(5)
