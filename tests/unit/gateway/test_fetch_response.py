"""Reading a response: any bytes a stranger sends become a picture or one of our errors."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deadline import Deadline
from gateway.errors import ImageTooLarge, OriginFailed
from gateway.scoring.fetch.connection import Connection, Disconnected
from gateway.scoring.fetch.response import parse_head, read_body, read_head
from gateway.scoring.fetch.waiting import Allowance, Memory, Patience

LIMIT = 1000
PATIENT = Patience(Deadline.after(3600))


def read_response(sent: bytes) -> tuple[int, bytes, bytes]:
    """Status, body, and what is left on the connection after them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        connection = Connection(ours)
        head = read_head(connection, PATIENT)
        body = read_body(head, connection, Allowance(None, LIMIT, Memory(0)), PATIENT)
        return head.status, body, connection.read_some(100_000, PATIENT)


LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 100 Continue",
        b"Content-Length: 5",
        b"Content-Length: 3",
        b"Content-Length: 1001",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Connection: close",
        b"Location: /x",
        b"5",
        b"0",
        b"3e9",
        b"hello",
        b"",
        b"",
    ]
)


@given(st.lists(LINES | st.binary(max_size=20), max_size=12))
def test_any_lines_are_a_picture_or_our_error(lines: list[bytes]) -> None:
    try:
        _, body, _ = read_response(b"\r\n".join(lines))
    except (OriginFailed, ImageTooLarge, Disconnected):
        return
    assert len(body) <= LIMIT


@given(st.binary(max_size=200))
def test_any_head_is_read_or_refused(block: bytes) -> None:
    try:
        head = parse_head(b"HTTP/1.1 200 OK\r\n" + block)
    except OriginFailed:
        return
    assert head.status == 200
    assert not (head.chunked and head.length is not None)


@given(st.binary(max_size=LIMIT), st.binary(max_size=50))
def test_a_body_of_stated_length_is_that_and_the_rest_is_left(body: bytes, rest: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert read_response(head + body + rest) == (200, body, rest)


@given(st.lists(st.binary(min_size=1, max_size=90), max_size=10), st.binary(max_size=50))
def test_chunks_are_put_together_and_the_rest_is_left(pieces: list[bytes], rest: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    sent = head + chunks + b"0\r\nSum: 1\r\n\r\n" + rest
    assert read_response(sent) == (200, b"".join(pieces), rest)


@pytest.mark.case("B9")
def test_many_chunks_are_read_as_long_as_they_are_worth_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.scoring.fetch.response.MANY_CHUNKS", 3)
    monkeypatch.setattr("gateway.scoring.fetch.response.SMALL_CHUNK", 10)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    small, large, end = b"1\r\nx\r\n", b"28\r\n" + b"y" * 40 + b"\r\n", b"0\r\n\r\n"
    assert read_response(head + small * 3 + end)[1] == b"xxx"
    assert read_response(head + large + small * 3 + end)[1] == b"y" * 40 + b"xxx"
    with pytest.raises(OriginFailed, match="too many chunks"):
        read_response(head + small * 4 + end)
    with pytest.raises(OriginFailed, match="too many chunks"):
        read_response(head + large + small * 4 + end)


@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        (b"", True),
        (b"\r\nConnection: keep-alive", True),
        (b"\r\nConnection: close", False),
        (b"\r\nCONNECTION: CLOSE", False),
        (b"\r\nConnection: a , close", False),
        (b"\r\nConnection: a\r\nConnection: close", False),
        (b"\r\nConnection: closed", True),
    ],
)
def test_connection_close_is_heard_in_every_spelling(fields: bytes, keeps: bool) -> None:
    assert parse_head(b"HTTP/1.1 200 OK" + fields).keeps_alive is keeps


def test_heads_up_to_their_limit_are_read() -> None:
    """32 KiB of all heads of one answer, the interim ones included."""
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ", b"\r\n\r\n"
    filling = b"y" * (32 * 1024 - len(start) - len(end))
    assert read_response(start + filling + end)[0] == 200
    with pytest.raises(OriginFailed):
        read_response(start + filling + b"y" + end)
    interim = b"HTTP/1.1 103 Hints\r\n\r\n"
    assert read_response(interim + start + filling[: -len(interim)] + end)[0] == 200
    with pytest.raises(OriginFailed):
        read_response(interim + start + filling + end)


def test_a_field_of_spaces_is_read_without_delay() -> None:
    """A pattern that backtracks would need minutes here."""
    spaces = b" \t" * 15_000
    head = parse_head(b"HTTP/1.1 200 OK\r\nConnection:" + spaces + b"close" + spaces + b"x")
    assert head.keeps_alive
