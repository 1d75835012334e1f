"""Pictures' hosts that misbehave in every way known, on real sockets."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import (
    CallerGone,
    DeadlineExceeded,
    GatewayError,
    ImageTooLarge,
    OriginFailed,
    OriginTimeout,
    Overloaded,
    URLNotAllowed,
)
from tests.support.cases import rows
from tests.support.fetching import UNHURRIED, fetch, fetching, refusal
from tests.support.hostile_answers import (
    CASES,
    CHUNKED,
    HEAD,
    LIMIT,
    POISON,
    POISONED,
    SECRET,
    STATUSES,
    chunk,
    head_then,
)
from tests.support.hostile_origin import (
    PICTURE,
    HostileOrigin,
    Script,
    Visit,
    after_request,
    answer,
    answer_once,
    response,
)


@pytest.mark.parametrize(("script", "expected"), rows(CASES))
def test_a_misbehaving_host_is_one_failed_fetch_and_nothing_else(
    script: Script, expected: type[GatewayError]
) -> None:
    """It ends, as the right error, echoes nothing, and leaves its place to the next fetch."""
    timeout = "1" if expected is OriginTimeout else "20"
    with (
        HostileOrigin(script) as origin,
        HostileOrigin(answer(response())) as healthy,
        fetching(
            origin,
            healthy,
            MAX_IMAGE_BYTES=str(LIMIT),
            FETCH_TIMEOUT=timeout,
            THREADS="1",
            FETCH_THREADS="1",
        ) as fetcher,
    ):
        error = refusal(fetcher, origin.url)
        assert type(error) is expected
        assert "secret-of-the-origin" not in str(error) + error.message
        assert origin.gone.acquire(timeout=10), "the connection is still open"
        assert fetch(fetcher, healthy.url) == PICTURE
        assert fetch(fetcher, healthy.url) == PICTURE


@pytest.mark.parametrize("status", rows(STATUSES))
def test_another_status_is_a_failed_host_and_is_named(status: int) -> None:
    with (
        HostileOrigin(answer(response(status=f"{status} secret", fields=(SECRET,)))) as origin,
        fetching(origin) as fetcher,
    ):
        error = refusal(fetcher, origin.url)
    assert isinstance(error, OriginFailed)
    assert error.origin_status == status
    assert error.message == f"The picture's host answered with status {status}."


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "length": response,
    "chunks": lambda body: CHUNKED + chunk(body[:7]) + chunk(body[7:]) + b"0\r\n\r\n",
    "end of the stream": lambda body: HEAD + b"\r\n" + body,
    "HTTP/1.0": lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body,
}


@pytest.mark.case("B5")
@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_size_limit_is_exact(framing: str) -> None:
    """Exactly the limit passes, one byte more does not."""
    bodies = [bytes(LIMIT), bytes(LIMIT + 1)]
    answers = iter([FRAMINGS[framing](body) for body in bodies])
    with (
        HostileOrigin(after_request(lambda visit: visit.send(next(answers)))) as origin,
        fetching(origin, MAX_IMAGE_BYTES=str(LIMIT)) as fetcher,
    ):
        assert fetch(fetcher, origin.url) == bodies[0]
        error = refusal(fetcher, origin.url)
    assert isinstance(error, ImageTooLarge)
    assert error.message == f"The picture has more than {LIMIT} bytes."


@dataclass(frozen=True)
class Good:
    """An unusual answer that is a picture all the same."""

    data: bytes
    body: bytes = PICTURE


GOOD = {
    "interim answers before it": Good(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response()
    ),
    "B13 a page's type": Good(response(fields=("Content-Type: text/html",))),
    "B13 a picture's type and a page inside": Good(
        response(b"<html>", fields=("Content-Type: image/png",)), b"<html>"
    ),
    "A36 Refresh and Alt-Svc": Good(
        response(fields=("Refresh: 0; url=http://b.com", 'Alt-Svc: h2="b.com:443"'))
    ),
    "Location with status 200": Good(response(fields=("Location: http://b.com/",))),
    "no reason": Good(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "a reason in Latin-1": Good(response(status="200 d\xe9j\xe0 vu")),
    "an empty body": Good(response(b""), b""),
    "an empty chunked body": Good(CHUNKED + b"0\r\n\r\n", b""),
    "chunk extensions and a trailer": Good(
        CHUNKED + b"5;a=b\r\nhello\r\n0;c\r\nX-Sum: 1\r\n\r\n", b"hello"
    ),
    "upper-case chunk size": Good(CHUNKED + b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789"),
    "coding identity": Good(response(fields=("Content-Encoding: identity",))),
    "100 header lines": Good(response(fields=("X: y",) * 99)),
}


@pytest.mark.parametrize("good", rows(GOOD))
def test_an_unusual_answer_is_read(good: Good) -> None:
    with HostileOrigin(answer_once(good.data)) as origin, fetching(origin) as fetcher:
        assert fetch(fetcher, origin.url) == good.body


def test_a_picture_that_comes_in_small_pieces_is_whole() -> None:
    body = bytes(range(256))

    def pieces(visit: Visit) -> None:
        visit.read_request()
        for piece in response(body):
            visit.send(bytes([piece]))

    with HostileOrigin(pieces) as origin, fetching(origin) as fetcher:
        assert fetch(fetcher, origin.url) == body


@pytest.mark.case("A35")
def test_the_request_names_the_host_and_carries_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No cookie, no credentials, no proxy, whatever the environment says (A35)."""
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with HostileOrigin(answer(response())) as origin, fetching(origin) as fetcher:
        fetch(fetcher, f"http://LocalHost:{origin.port}/a/b.jpg?c=d%20e#f")
    lines = origin.requests[0].decode("ascii").split("\r\n")
    assert lines[0] == "GET /a/b.jpg?c=d%20e HTTP/1.1"
    assert lines[1] == f"Host: localhost:{origin.port}"
    names = [line.partition(":")[0] for line in lines[1:] if line]
    assert names == ["Host", "User-Agent", "Accept", "Accept-Encoding", "CDN-Loop"]
    assert "Accept-Encoding: identity" in lines


@pytest.mark.case("B18")
def test_a_cookie_is_not_sent_back() -> None:
    data = response(fields=("Set-Cookie: session=1; Path=/",))
    with HostileOrigin(answer(data)) as origin, fetching(origin) as fetcher:
        fetch(fetcher, origin.url)
        fetch(fetcher, origin.url)
    assert len(origin.requests) == 2
    assert all(b"cookie" not in request.lower() for request in origin.requests)


def test_a_connection_is_used_again() -> None:
    with HostileOrigin(answer(response())) as origin, fetching(origin) as fetcher:
        for _ in range(5):
            assert fetch(fetcher, origin.url) == PICTURE
    assert (origin.connections, len(origin.requests)) == (1, 5)


@pytest.mark.parametrize(
    "data",
    [
        response(fields=("Connection: close",)),
        response(fields=("Connection: Keep-Alive, Close",)),
        response().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_connection_that_the_host_ends_is_not_used_again(data: bytes) -> None:
    with HostileOrigin(answer(data)) as origin, fetching(origin) as fetcher:
        fetch(fetcher, origin.url)
        fetch(fetcher, origin.url)
    assert origin.connections == 2


@pytest.mark.parametrize("data", rows(POISONED))
def test_what_comes_after_an_answer_never_serves_the_next(data: bytes) -> None:
    with HostileOrigin(answer(data)) as origin, fetching(origin) as fetcher:
        first, second = fetch(fetcher, origin.url), fetch(fetcher, origin.url)
    assert first == second
    assert PICTURE.startswith(first)
    assert origin.connections == 2


@pytest.mark.case("B19")
def test_poison_that_comes_late_never_serves_the_next() -> None:
    """It comes once the first answer was read whole and the connection kept."""
    fetched, poisoned = threading.Event(), threading.Event()

    def script(visit: Visit) -> None:
        visit.read_request()
        visit.send(response())
        if visit.origin.connections == 1:
            assert fetched.wait(10)
            visit.send(POISON)
            poisoned.set()
            visit.wait_until_gone()

    with HostileOrigin(script) as origin, fetching(origin) as fetcher:
        assert fetch(fetcher, origin.url) == PICTURE
        fetched.set()
        assert poisoned.wait(10)
        assert fetch(fetcher, origin.url) == PICTURE
        assert origin.connections == 2


def test_a_kept_connection_that_the_host_has_closed_is_replaced() -> None:
    """Also when the host closes it just as the next request arrives."""

    def script(visit: Visit) -> None:
        visit.read_request()
        visit.send(response())
        visit.read_request()

    with HostileOrigin(script) as origin, fetching(origin) as fetcher:
        for _ in range(4):
            assert fetch(fetcher, origin.url) == PICTURE


def test_the_request_s_own_deadline_ends_a_fetch_as_such() -> None:
    with (
        HostileOrigin(lambda visit: visit.wait_until_gone()) as origin,
        fetching(origin) as fetcher,
        pytest.raises(DeadlineExceeded),
    ):
        fetcher.fetch(origin.url, Deadline.after(0.3))


def test_a_host_that_always_has_more_is_cut_by_the_clock_too() -> None:
    """The picture comes in chunks as small as may be, and for as long: no receive ever waits."""
    piece = b"100;" + b"x" * 200 + b"\r\n" + b"x" * 256 + b"\r\n"
    with (
        HostileOrigin(head_then("flood", CHUNKED, piece * 500)) as origin,
        fetching(origin, FETCH_TIMEOUT="0.5", MAX_IMAGE_BYTES="200000000") as fetcher,
    ):
        assert type(refusal(fetcher, origin.url)) is OriginTimeout


def test_a_caller_that_hangs_up_ends_its_fetch() -> None:
    cancelled = Cancellation()

    def hang_up(visit: Visit) -> None:
        visit.read_request()
        visit.send(HEAD)
        cancelled.set()
        visit.wait_until_gone()

    started = time.monotonic()
    with HostileOrigin(hang_up) as origin, fetching(origin) as fetcher:
        with pytest.raises(CallerGone):
            fetcher.fetch(origin.url, Deadline.after(UNHURRIED), cancelled)
        assert origin.gone.acquire(timeout=10)
    assert time.monotonic() - started < UNHURRIED / 3


def test_fetches_from_one_host_are_bounded_and_the_rest_wait() -> None:
    """Of two places, one host may take one: the second fetch waits and then is refused."""
    with (
        HostileOrigin(lambda visit: visit.wait_until_gone()) as origin,
        HostileOrigin(answer(response())) as healthy,
        fetching(origin, healthy, THREADS="1", FETCH_THREADS="1", FETCH_TIMEOUT="1.5") as fetcher,
    ):
        holding = threading.Thread(target=refusal, args=(fetcher, origin.url))
        holding.start()
        deadline = Deadline.after(10)
        while not origin.connections:
            deadline.check("connection")
        with pytest.raises(Overloaded):
            fetcher.fetch(origin.url, Deadline.after(0.3))
        assert origin.connections == 1
        holding.join(10)
        assert fetch(fetcher, f"http://localhost:{healthy.port}/") == PICTURE


def test_a_host_that_never_lets_in_reads_like_one_that_is_not_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its queue of connections is full, so that connecting has no end of its own."""
    monkeypatch.setattr("gateway.scoring.fetch.transport.CONNECT_TIMEOUT", 0.3)
    with ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listening.getsockname()[1]
        for _ in range(8):
            filling = opened.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.1", port))
        fetcher = opened.enter_context(fetching(ALLOWED_NETWORKS=f"127.0.0.1/32:{port}"))
        error = refusal(fetcher, f"http://127.0.0.1:{port}/")
        assert type(error) is URLNotAllowed
        assert error.message == refusal(fetcher, "http://10.0.0.1/").message
        assert "in time" in error.log_detail
        with pytest.raises(URLNotAllowed) as caught:
            fetcher.fetch(f"http://127.0.0.1:{port}/", Deadline.after(0.1))
        assert caught.value.message == error.message
