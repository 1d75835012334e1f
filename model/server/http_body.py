"""The bodies of HTTP/1.1 requests, within a limit."""

from email.message import Message
from typing import Final, Protocol

MAX_LINE_BYTES: Final = 65536
MAX_TRAILERS: Final = 100


class BodyRefused(Exception):
    """A body cannot be read; `status` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Stream(Protocol):
    """What a body is read from."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or what there is before the end."""

    def readline(self, size: int, /) -> bytes:
        """Up to and with the end of the line, or so many bytes."""


def read_body(headers: Message, stream: Stream, limit: int) -> bytes:
    """The whole body of a request.

    Raises:
        BodyRefused: 413, it is larger than the limit; 431, it has too many trailers; 400, it is not
            framed as its head says; 501, it is encoded in another way than in chunks.
    """
    if "Transfer-Encoding" in headers:
        if headers["Transfer-Encoding"].strip().lower() != "chunked":
            raise BodyRefused(501)
        if "Content-Length" in headers:
            raise BodyRefused(400)
        return _chunks(stream, limit)
    length = declared_length(headers)
    if length < 0:
        raise BodyRefused(400)
    if length > limit:
        raise BodyRefused(413)
    return _exactly(stream, length)


def declared_length(headers: Message) -> int:
    """What the head says of the body's length; -1 when it says nonsense."""
    lengths = {text.strip() for text in headers.get_all("Content-Length", ["0"])}
    text = lengths.pop()
    is_number = text.isascii() and text.isdigit() and len(text) < 20
    return int(text) if is_number and not lengths else -1


def _exactly(stream: Stream, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise BodyRefused(400)
    return data


def _chunks(stream: Stream, limit: int) -> bytes:
    body = bytearray()
    while size := _chunk_size(stream):
        if len(body) + size > limit:
            raise BodyRefused(413)
        body += _exactly(stream, size)
        if stream.readline(3) != b"\r\n":
            raise BodyRefused(400)
    _skip_trailers(stream)
    return bytes(body)


def _skip_trailers(stream: Stream) -> None:
    for _ in range(MAX_TRAILERS):
        if not _line(stream).strip():
            return
    raise BodyRefused(431)


def _chunk_size(stream: Stream) -> int:
    digits = _line(stream).partition(b";")[0].strip()
    if not digits.isalnum() or len(digits) > 16:
        raise BodyRefused(400)
    try:
        return int(digits, 16)
    except ValueError as error:
        raise BodyRefused(400) from error


def _line(stream: Stream) -> bytes:
    line = stream.readline(MAX_LINE_BYTES + 1)
    if not line.endswith(b"\n"):
        raise BodyRefused(400)
    return line
