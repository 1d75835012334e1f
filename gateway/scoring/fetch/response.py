"""One HTTP/1.1 response, read strictly and within limits.

What RFC 9112 lets a client forgive is refused here: a picture's host that frames its answer in two
ways is broken or hostile. Nothing of what it sends is repeated in a message.
docs/decisions/2026-11-21-parsers.md says why no library reads it.
"""

import re
from dataclasses import dataclass
from io import BytesIO

from gateway.errors import OriginFailed
from gateway.scoring.fetch.connection import RECEIVE_BYTES, Connection, Disconnected
from gateway.scoring.fetch.waiting import Allowance, Patience

HEAD_BYTES = 32 * 1024
"""Bytes of all heads of one answer, interim ones (1xx) included."""
HEAD_FIELDS = 100
CHUNK_LINE_BYTES = 256
MANY_CHUNKS, SMALL_CHUNK = 1000, 256
"""More chunks than this, of fewer bytes on average, are work and no way to send a picture."""
TRAILER_BYTES = 8 * 1024
MALFORMED_CHUNK = "The picture's host sent a malformed chunk."
LONG_HEAD = "The picture's host sent a longer line or head than HTTP needs."

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})( [^\x00-\x08\x0a-\x1f\x7f]*)?")
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(rb"[^\x00\r\n]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[^\r\n]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True)
class Head:
    """What of a response's head matters here.

    Attributes:
        status: from 200 to 599.
        length: of the body in bytes, if the head tells.
        chunked: whether the body comes in chunks.
        keeps_alive: whether the connection may be used again after the body.
        locations: every Location.
        encoded: whether the body is compressed or otherwise encoded.
    """

    status: int
    length: int | None
    chunked: bool
    keeps_alive: bool
    locations: tuple[bytes, ...]
    encoded: bool

    @property
    def framed(self) -> bool:
        """Whether the body's end can be told from the end of the connection."""
        return self.chunked or self.length is not None


def read_head(connection: Connection, patience: Patience) -> Head:
    """The head of the final response; interim ones before it are read and dropped.

    Raises:
        OriginFailed: it is not HTTP/1.1, or more than HEAD_BYTES.
        Disconnected: the stream ends before.
    """
    left = HEAD_BYTES
    while left > 0:
        block = connection.read_until(b"\r\n\r\n", left, patience)
        left -= len(block) + 4
        head = parse_head(block)
        if head.status == 101:
            raise OriginFailed("The picture's host switched to another protocol.")
        if head.status >= 200:
            return head
    raise OriginFailed(LONG_HEAD)


def parse_head(block: bytes) -> Head:
    """Read a head without the empty line at its end.

    Raises:
        OriginFailed: it breaks a rule.
    """
    status_line, *lines = block.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise OriginFailed("The picture's host does not answer in HTTP/1.1.")
    fields = _fields(lines)
    minor, status = match[1], int(match[2])
    chunked, length = _framing(fields, minor)
    options = b",".join(fields.get(b"connection", ())).lower().split(b",")
    codings = fields.get(b"content-encoding", [])
    return Head(
        status=status,
        length=length,
        chunked=chunked,
        keeps_alive=minor == b"1" and b"close" not in (option.strip() for option in options),
        locations=tuple(fields.get(b"location", ())),
        encoded=any(coding.lower() != b"identity" for coding in codings),
    )


def read_body(
    head: Head, connection: Connection, allowance: Allowance, patience: Patience
) -> bytes:
    """The body, whole.

    Raises:
        ImageTooLarge: it has more bytes than are allowed; what is too much was not kept.
        Overloaded: there is no memory for it.
        OriginFailed: it is cut off or badly framed.
    """
    try:
        if head.chunked:
            return _read_chunks(connection, allowance, patience)
        if head.length is not None:
            return _read_length(head.length, connection, allowance, patience)
        return _read_to_end(connection, allowance, patience)
    except Disconnected as error:
        message = "The picture's host broke the connection off before the end of the picture."
        raise OriginFailed(message, log_detail=str(error)) from error


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    if len(lines) > HEAD_FIELDS:
        raise OriginFailed("The picture's host sent more header fields than HTTP needs.")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not (colon and _FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
            raise OriginFailed("The picture's host sent a malformed header field.")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return fields


def _framing(fields: dict[bytes, list[bytes]], minor: bytes) -> tuple[bool, int | None]:
    codings = fields.get(b"transfer-encoding")
    lengths = fields.get(b"content-length")
    if codings is not None:
        known = len(codings) == 1 and codings[0].lower() == b"chunked"
        if not known or lengths is not None or minor == b"0":
            raise OriginFailed("The picture's host sent a transfer encoding that cannot be read.")
        return True, None
    if lengths is None:
        return False, None
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise OriginFailed("The picture's host sent a malformed Content-Length.")
    return False, int(lengths[0])


def _read_length(
    length: int, connection: Connection, allowance: Allowance, patience: Patience
) -> bytes:
    allowance.grow_to(length)
    body = BytesIO(bytes(length))  # filled in place, as copies cost more than all else here
    with body.getbuffer() as space:
        connection.read_into(space, patience)
    return body.getvalue()


def _read_to_end(connection: Connection, allowance: Allowance, patience: Patience) -> bytes:
    body = BytesIO()
    while some := connection.read_some(RECEIVE_BYTES, patience):
        allowance.grow_to(body.tell() + len(some))
        body.write(some)
    return body.getvalue()


def _read_chunks(connection: Connection, allowance: Allowance, patience: Patience) -> bytes:
    body = BytesIO()
    chunks = 0
    while size := _read_chunk_size(connection, patience):
        chunks += 1
        if chunks > MANY_CHUNKS and body.tell() + size < chunks * SMALL_CHUNK:
            raise OriginFailed("The picture's host sent too many chunks of too few bytes.")
        allowance.grow_to(body.tell() + size)
        while size:
            some = connection.read_some(size, patience)
            if not some:
                raise Disconnected(f"the stream ended {size} bytes before the end of a chunk")
            size -= body.write(some)
        if connection.read_until(b"\r\n", 2, patience):
            raise OriginFailed(MALFORMED_CHUNK)
    left = TRAILER_BYTES
    while trailer := connection.read_until(b"\r\n", max(0, left), patience):
        left -= len(trailer) + 2
    return body.getvalue()


def _read_chunk_size(connection: Connection, patience: Patience) -> int:
    match = _CHUNK_LINE.fullmatch(connection.read_until(b"\r\n", CHUNK_LINE_BYTES, patience))
    if match is None:
        raise OriginFailed(MALFORMED_CHUNK)
    return int(match[1], 16)
