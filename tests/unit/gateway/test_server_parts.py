"""The server's parts by themselves: heads, answers, admission, pool, board, WSGI."""

import asyncio
import errno
import gc
import signal
import threading
import weakref
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.asgi.parser import PythonProtocol

from gateway.admission import SMALL_BODY, Admission
from gateway.callers import Caller
from gateway.deadline import Deadline
from gateway.metrics import Uncounted
from gateway.server import answers, wsgi
from gateway.server.answers import Answer
from gateway.server.connection import Connection
from gateway.server.head import Head, read_head
from gateway.server.listeners import Board
from gateway.server.pool import Pool
from gateway.server.refusals import Refusal
from gateway.server.shell import Shell
from gateway.server.worker import GatewayWorker
from gateway.server.wsgi import Call, Peer
from gateway.settings import Settings


class ResetTransport(asyncio.Transport):
    """A connection that takes an answer and is reset before its end can be told."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.case("E13")
def test_a_caller_that_resets_while_it_is_refused_is_let_go_in_silence() -> None:
    shell = Shell(Settings.from_environment({}), lambda _environ, _start: [], Uncounted())
    transport = ResetTransport()

    async def refuse() -> None:
        connection = Connection(shell)
        connection.connection_made(transport)
        connection.data_received(b"no request\r\n")
        connection.connection_lost(None)

    asyncio.run(refuse())

    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert transport.aborted
    assert not shell.connections


def head_of(*lines: str) -> Head:
    """The head that the parser and we make of these lines."""
    heads: list[Head] = []
    parser = PythonProtocol()
    parser._on_headers_complete = lambda: heads.append(read_head(parser))
    parser.feed("\r\n".join([*lines, "", ""]).encode("latin-1"))
    return heads[0]


def test_a_path_is_decoded_once_and_keeps_its_bytes() -> None:
    head = head_of("GET /a%2520b/%C3%A9?c=%20 HTTP/1.1", "Host: x")

    assert (head.path, head.query) == ("/a%20b/\xc3\xa9", "c=%20")


def test_a_fragment_is_no_part_of_a_path() -> None:
    assert head_of("GET /a#b HTTP/1.1", "Host: x").path == "/a"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://x:80/a?b", "/a", "b"),
        ("HTTP://X:80", "/", ""),
        ("http://x:80?b", "/", "b"),
    ],
)
def test_an_absolute_target_is_taken_apart(target: str, path: str, query: str) -> None:
    head = head_of(f"GET {target} HTTP/1.1", "Host: x:80")

    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    ("host", "name"), [("A.b", "a.b"), ("a:1", "a"), ("[::1]:1", "[::1]"), ("[::1]", "[::1]")]
)
def test_a_host_is_known_without_its_port(host: str, name: str) -> None:
    assert head_of("GET / HTTP/1.1", f"Host: {host}").host_name == name


NO_HOSTS = [
    *("a b", "a@b", "a,b", "ä", "a:b", "[::1", "http://a", "a/"),
    *("..", ".a", "a..b", 64 * "a"),  # no name of DNS, and no host to Flask either
]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(Refusal, match="Host"):
        head_of("GET / HTTP/1.1", f"Host: {host}")


def test_media_types_are_compared_in_lower_case_without_parameters() -> None:
    head = head_of("GET / HTTP/1.1", "Host: x", "Content-Type: Image/JPEG ; q=1")

    assert head.content_type == "image/jpeg"


TOKEN = "tensorgate-0123456789"


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        ((f"CDN-Loop: {TOKEN}",), True),
        ((f"cdn-loop: other.example; a=b , {TOKEN};v=1",), True),
        (("CDN-Loop: other.example", f"CDN-Loop: {TOKEN}"), True),
        (("CDN-Loop: other.example",), False),
        ((f"CDN-Loop: {TOKEN}0, {TOKEN.upper()}, other.example; {TOKEN}",), False),
        (("CDN-Loop:",), False),
        ((f"X-Loop: {TOKEN}",), False),
    ],
)
def test_a_request_that_carries_the_gateway_s_own_token_is_its_own_fetch(
    fields: tuple[str, ...], passed: bool
) -> None:
    """RFC 8586: a list of identifiers, each with parameters."""
    assert head_of("GET / HTTP/1.1", "Host: x", *fields).passed(TOKEN) is passed


HEAD = head_of("GET / HTTP/1.1", "Host: x")


def encoded(answer: Answer, head: Head | None = HEAD) -> list[bytes]:
    """The answer's lines without its date."""
    lines = answers.encode(answer, head, (("X-Request-ID", "1"),)).split(b"\r\n")
    return [line for line in lines if not line.startswith(b"Date: ")]


def test_an_answer_is_framed_by_its_body_alone() -> None:
    said = (("Content-Length", "99"), ("Transfer-Encoding", "chunked"), ("Connection", "x"))

    assert encoded(Answer(200, (("A", "b"), *said), b"body")) == [
        b"HTTP/1.1 200 OK",
        b"A: b",
        b"X-Request-ID: 1",
        b"Content-Length: 4",
        b"",
        b"body",
    ]


def test_no_content_has_neither_body_nor_length() -> None:
    assert encoded(Answer(204, (), b"x"))[1:] == [b"X-Request-ID: 1", b"", b""]


def test_an_answer_to_head_says_the_length_that_get_would_have() -> None:
    head = head_of("HEAD / HTTP/1.1", "Host: x")

    assert b"Content-Length: 7" in encoded(Answer(200, (("content-length", "7"),), b""), head)
    assert encoded(Answer(200, (), b"abc"), head)[-2:] == [b"", b""]
    assert b"Content-Length: 3" in encoded(Answer(200, (), b"abc"), head)


def admission(**settings: object) -> Admission:
    environment = {name.upper(): str(value) for name, value in settings.items()}
    return Admission(Settings.from_environment(environment))


def test_places_are_bounded_and_come_back() -> None:
    places = admission(max_in_flight=2).places("/predict")
    places.enter()
    places.enter()
    with pytest.raises(Refusal) as refused:
        places.enter()
    places.leave()
    places.enter()

    assert (refused.value.status, dict(refused.value.headers)["Retry-After"]) == (503, "1")


def test_probes_have_places_of_their_own() -> None:
    busy = admission(max_in_flight=1)
    busy.places("/predict").enter()

    busy.places("/healthz").check()
    busy.places("/readyz").check()
    with pytest.raises(Refusal):
        busy.places("/models").check()


def test_memory_for_bodies_is_bounded_but_small_ones_need_none() -> None:
    limit = 1024 * 1024
    bodies = admission(upload_memory=limit)
    bodies.hold(0, SMALL_BODY)
    bodies.hold(SMALL_BODY, limit)
    with pytest.raises(Refusal) as refused:
        bodies.hold(SMALL_BODY, 1)
    for _ in range(100):
        bodies.hold(0, SMALL_BODY)
    bodies.let_go(SMALL_BODY + limit)
    bodies.hold(0, SMALL_BODY + limit)

    assert refused.value.status == 503


def test_a_pool_runs_jobs_in_their_order_and_ends() -> None:
    pool = Pool(1, "test")
    done: list[int] = []
    last = threading.Event()
    pool.start()
    for number in range(5):
        pool.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    pool.submit(last.set)
    assert last.wait(10)
    pool.stop()

    assert done == [0, 1, 2, 3, 4]


def test_a_job_that_is_withdrawn_is_neither_run_nor_kept() -> None:
    class Body:
        """What a job holds."""

    pool = Pool(1, "test")
    body, done, last = Body(), [], threading.Event()
    kept = weakref.ref(body)

    def job(held: Body = body) -> None:
        done.append(held)

    pool.submit(job)
    pool.withdraw(job)
    del body, job
    gc.collect()
    assert kept() is None
    pool.submit(last.set)
    pool.start()
    assert last.wait(10)
    pool.withdraw(last.set)
    pool.stop()

    assert done == []


def test_a_worker_gives_way_only_to_one_with_fewer_connections() -> None:
    board = Board(3)
    first, second = board.take(), board.take()
    board.write(first, 2)
    board.write(second, 1)

    assert board.another_has_fewer(first)
    assert not board.another_has_fewer(second)
    board.free(second)
    assert not board.another_has_fewer(first)
    assert board.take() == second


def call(*lines: str, body: bytes = b"") -> Call:
    peer = Peer(("192.0.2.1", 1), ("192.0.2.2", 2))
    caller = Caller("192.0.2.3", proxy="192.0.2.1", key="shop")
    return Call(head_of(*lines), body, "id", Deadline(5.0), 1.0, peer, caller, lambda _number: None)


def test_the_environ_has_what_pep_3333_wants_and_our_own_keys() -> None:
    asked = call("POST /a?b=c HTTP/1.1", "Host: x", "Content-Length: 2", "X-A: 1", body=b"{}")
    environ = wsgi.environ_of(asked, 1.5, draining=False)

    assert environ["REQUEST_METHOD"] == "POST"
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/a", "b=c")
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"]) == ("192.0.2.3", "192.0.2.2")
    assert (environ["CONTENT_LENGTH"], environ["wsgi.input"].read()) == ("2", b"{}")
    assert environ["HTTP_X_A"] == "1"
    assert environ["tensorgate.queue_seconds"] == 0.5
    assert environ["tensorgate.deadline"] == Deadline(5.0)
    assert environ["tensorgate.draining"] is False
    assert environ["tensorgate.caller"] == asked.caller
    assert environ["tensorgate.count_pictures"] is asked.count_pictures


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
def test_a_key_goes_no_further_than_the_server(name: str) -> None:
    asked = call("GET / HTTP/1.1", "Host: x", f"{name}: secret")

    assert "secret" not in str(wsgi.environ_of(asked, 1.5, draining=False).values())


class Closing:
    """A WSGI answer that notes whether it was closed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.closed = False

    def __iter__(self) -> Any:
        return iter(self._chunks)

    def close(self) -> None:
        self.closed = True


def test_an_application_that_fails_midway_is_closed() -> None:
    def chunks() -> Iterable[bytes]:
        yield b"a"
        raise OSError

    answer = Closing(chunks())
    with pytest.raises(OSError):  # noqa: PT011
        wsgi.run(lambda _environ, start: (start("200 OK", []) and answer) or answer, {})

    assert answer.closed


def test_what_is_written_comes_before_what_is_returned() -> None:
    def application(_environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("A", "b")])(b"first ")
        return [b"second"]

    assert wsgi.run(application, {}) == Answer(200, (("A", "b"),), b"first second")


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "a\0"])
def test_an_answer_whose_fields_would_split_it_is_an_error(value: str) -> None:
    def application(_environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("A", value)])
        return []

    with pytest.raises(ValueError, match="control character"):
        wsgi.run(application, {})


@pytest.mark.parametrize(
    ("number", "alive", "quick"),
    [(signal.SIGTERM, False, False), (signal.SIGINT, False, True), (signal.SIGCHLD, True, False)],
)
def test_a_signal_that_came_before_a_workers_own_handlers_is_heeded(
    number: int, alive: bool, quick: bool
) -> None:
    worker = GatewayWorker.__new__(GatewayWorker)
    worker.alive, worker._quick_shutdown = True, False
    worker.cfg = SimpleNamespace(worker_int=lambda _worker: None)
    worker._stopping = asyncio.Event()
    worker.early_signals = SimpleQueue()
    worker.early_signals.put(number)
    worker._catch_up_on_signals()

    assert (worker.alive, worker._quick_shutdown) == (alive, quick)
    assert worker._stopping.is_set() is not alive
