"""One caller's connection: bytes in, bytes out, and a clock on every wait.

Reading and writing happen on the event loop, so a slow caller costs a socket and no thread. The
parser is gunicorn's own for its asyncio worker; what surrounds it here is short enough to reason
about: one phase at a time, one timer at a time.

    WAITING -> HEAD -> BODY -> SERVING -> WRITING -> WAITING ... or LINGERING -> closed
"""

import asyncio
import enum
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

from gunicorn.asgi import parser as http

from gateway import logs, refusals
from gateway.deadline import Deadline
from gateway.head import Head, read_head
from gateway.refusals import Refusal
from gateway.server import Answer, Call, Peer, Shell, refuse

MAX_REQUEST_LINE = 8190
MAX_HEADER_FIELDS = 100
MAX_HEADER_FIELD = 8190
MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED_BYTES = 64 * 1024
"""Bytes behind a request that is being served; beyond them the socket is not read."""
MANY_CHUNKS, TINY_CHUNK = 1000, 16
"""More chunks than this, of fewer bytes on average, are work that serves nobody."""
OVERDUE_GRACE = 0.5
"""Seconds that the application has, past the deadline, to say so itself."""
LINGER_SECONDS = 2.0
"""How long what a refused caller still sends is thrown away, so that it can read its answer."""

_NO_BODY = frozenset({204, 304})
_HOP_BY_HOP = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive"})


class Phase(enum.Enum):
    """What a connection waits for."""

    WAITING = enum.auto()
    """The first byte of a request."""
    HEAD = enum.auto()
    BODY = enum.auto()
    SERVING = enum.auto()
    """The application."""
    WRITING = enum.auto()
    """The caller to take its answer."""
    LINGERING = enum.auto()
    """The end of what a caller sends though it has been answered."""
    CLOSED = enum.auto()


class Connection(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._settings = shell.settings
        self._phase = Phase.WAITING
        self._timer: asyncio.TimerHandle | None = None
        self._parser = http.PythonProtocol(
            on_headers_complete=self._on_head,
            on_body=self._on_body,
            limit_request_line=MAX_REQUEST_LINE,
            limit_request_fields=MAX_HEADER_FIELDS,
            limit_request_field_size=MAX_HEADER_FIELD,
        )
        self._flushed = True
        self._pipelined = bytearray()
        self._paused = False
        self._call: Call | None = None
        self._leave: Callable[[], None] | None = None
        self._close_after = False
        self._new_request()

    def _new_request(self) -> None:
        self._started = 0.0
        self._head: Head | None = None
        self._head_bytes = 0
        self._refusal: Refusal | None = None
        self._limit = 0
        self._chunks = 0
        self._body = bytearray()
        self._continued = False

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self._peer = Peer(_end(transport, "peername"), _end(transport, "sockname"))
        if self._shell.opened(self):
            self._wait(self._settings.head_timeout)
        else:
            self._started = time.monotonic()
            self._refuse(refusals.overloaded("Too many connections are open; try again."))

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, of the next one, or of nothing that matters any more."""
        if self._phase in {Phase.WAITING, Phase.HEAD, Phase.BODY}:
            self._feed(data)
        elif self._phase in {Phase.SERVING, Phase.WRITING}:
            self._pipelined += data
            if len(self._pipelined) > MAX_PIPELINED_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()

    def pause_writing(self) -> None:
        """Part of an answer waits in our memory."""
        self._flushed = False

    def resume_writing(self) -> None:
        """The kernel has taken all of an answer."""
        self._flushed = True
        if self._phase is Phase.WRITING:
            self._written()

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone: nobody waits for the answer any more."""
        self._phase = Phase.CLOSED
        self._set_timer(None)
        self._end_call()
        self._shell.admission.let_go(len(self._body))
        self._body = bytearray()
        self._shell.closed(self)

    # What the shell calls

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has arrived."""
        return self._phase is Phase.WAITING

    def cut(self) -> None:
        """End the connection now, with nothing more to say."""
        self._shell.works(self)
        self._transport.abort()

    def close_if_idle(self) -> None:
        """Close a connection that has no request on it."""
        if self.idle:
            self._transport.close()

    # Reading

    def _wait(self, seconds: float) -> None:
        """Wait for a request's first byte."""
        self._phase = Phase.WAITING
        self._shell.waits(self)
        self._set_timer(seconds, self._transport.close)

    def _feed(self, data: bytes) -> None:
        if self._phase is Phase.WAITING:
            self._phase = Phase.HEAD
            self._started = time.monotonic()
            self._shell.waits(self)
            self._set_timer(self._settings.head_timeout, self._head_late)
        if self._phase is Phase.HEAD:
            self._head_bytes += len(data)
        try:
            self._parser.feed(data)
        except http.ParseError as error:
            self._refusal = self._refusal or refusal_of(error)
            self._close_after = True
        self._advance()

    def _on_head(self) -> bool:
        """The parser has a whole head; whether to read its body is judged before that is read."""
        self._phase = Phase.BODY
        try:
            self._head = head = read_head(self._parser)
            self._limit = self._shell.admission.check(head)
        except Refusal as refusal:
            self._refusal = refusal
        return False

    def _on_body(self, chunk: bytes) -> None:
        """A piece of a body; it is kept while the request is neither refused nor too large."""
        if self._refusal is not None or self._head is None:
            return
        self._chunks += 1
        size = len(self._body) + len(chunk)
        try:
            if size > self._limit:
                _, sort = self._shell.admission.limits.limit(self._head.content_type)
                raise refusals.too_large(self._limit, sort)
            if self._chunks > MANY_CHUNKS and size < self._chunks * TINY_CHUNK:
                raise refusals.malformed("The body's chunks are too small and too many.")
            self._shell.admission.hold(len(self._body), len(chunk))
        except Refusal as refusal:
            self._refusal = refusal
        else:
            self._body += chunk

    def _advance(self) -> None:
        """Go on from what has been read so far."""
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._parser.is_complete:
            self._serve()
        elif self._phase is Phase.BODY:
            self._read_body()
        elif self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(refusals.head_too_large())

    def _read_body(self) -> None:
        """Wait for the rest of a body, with one clock for all of it."""
        head = self._head
        if head is None or self._continued:
            return
        self._continued = True
        remaining = self._deadline().remaining()
        self._set_timer(min(self._settings.body_timeout, remaining), self._body_late)
        if head.expects_continue and not self._body:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _head_late(self) -> None:
        self._refuse(refusals.too_slow("head", self._settings.head_timeout))

    def _body_late(self) -> None:
        self._refuse(refusals.too_slow("body", self._settings.body_timeout))

    def _deadline(self) -> Deadline:
        return Deadline(self._started + self._settings.request_timeout)

    # Serving

    def _serve(self) -> None:
        head = self._head
        if head is None:
            return
        self._phase = Phase.SERVING
        self._shell.works(self)
        call = Call(
            head=head,
            body=bytes(self._body),
            request_id=head.request_id,
            started=self._started,
            deadline=self._deadline(),
            peer=self._peer,
        )
        try:
            self._leave = self._shell.enter(call, lambda answer: self._answered(call, answer))
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self._call = call
        self._set_timer(call.deadline.remaining() + OVERDUE_GRACE, self._overdue)

    def _answered(self, call: Call, answer: Answer) -> None:
        """The application has answered, perhaps too late."""
        if call is self._call:
            self._end_call()
            self._write(answer, call.request_id)

    def _overdue(self) -> None:
        """The application has not even said that it is late: nobody waits for it any more."""
        self._end_call()
        self._refuse(refusals.overdue())

    def _end_call(self) -> None:
        """Give the place back, and tell the application if it is still at work."""
        if self._leave is not None:
            self._leave()
            self._leave = None
        if self._call is not None:
            self._call.cancelled.set()
            self._call = None

    # Writing

    def _refuse(self, refusal: Refusal) -> None:
        """Answer by ourselves; unless the whole request has been read, the connection ends."""
        self._close_after = self._close_after or not self._parser.is_complete
        self._shell.metrics.refused(refusal.slug)
        request_id = self._head.request_id if self._head else logs.new_request_id()
        self._write(refuse(refusal, request_id), request_id)

    def _write(self, answer: Answer, request_id: str) -> None:
        head = self._head
        keep = head is not None and head.keep_alive and not self._close_after
        self._close_after = not keep or self._shell.draining
        self._phase = Phase.WRITING
        self._shell.works(self)
        self._set_timer(self._settings.answer_timeout, self.cut)
        self._transport.write(encode(answer, head, request_id, close=self._close_after))
        logs.access(self._shell, self._peer, head, answer, request_id, self._started)
        if self._flushed:
            self._written()

    def _written(self) -> None:
        """The answer is with the kernel."""
        self._shell.admission.let_go(len(self._body))
        if self._close_after:
            self._linger()
            return
        rest = self._parser.remaining() + bytes(self._pipelined)
        self._pipelined.clear()
        self._parser.reset()
        self._new_request()
        self._wait(self._settings.keep_alive)
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if rest:
            self._loop.call_soon(self.data_received, rest)

    def _linger(self) -> None:
        """Say that no more comes, and let the caller finish sending so that it reads its answer.

        To close a socket that has unread bytes resets it, and the reset overtakes the answer.
        """
        self._body = bytearray()
        self._phase = Phase.LINGERING
        self._shell.waits(self)
        self._set_timer(LINGER_SECONDS, self.cut)
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _set_timer(self, seconds: float | None, then: Callable[[], Any] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None and then is not None:
            self._timer = self._loop.call_later(seconds, then)


def refusal_of(error: http.ParseError) -> Refusal:
    """What the parser's objection is to a caller, in our words."""
    if isinstance(error, http.LimitRequestLine):
        return refusals.target_too_long(MAX_REQUEST_LINE)
    if isinstance(error, http.LimitRequestHeaders):
        return refusals.head_too_large()
    if isinstance(error, http.UnsupportedTransferCoding):
        return refusals.coding_not_implemented()
    return refusals.malformed("The request is not HTTP/1.1 as RFC 9112 defines it.")


def encode(answer: Answer, head: Head | None, request_id: str, *, close: bool) -> bytes:
    """An answer's bytes. What frames it is ours alone: the application's word is not taken."""
    names = {name.lower() for name, _ in answer.headers}
    lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}"]
    lines += [
        f"{name}: {value}" for name, value in answer.headers if name.lower() not in _HOP_BY_HOP
    ]
    if "x-request-id" not in names:
        lines.append(f"X-Request-ID: {request_id}")
    lines.append(f"Date: {formatdate(usegmt=True)}")
    bodiless = answer.status in _NO_BODY
    is_head = head is not None and head.method == "HEAD"
    if not bodiless:
        lines.append(f"Content-Length: {_length(answer, names) if is_head else len(answer.body)}")
    if close:
        lines.append("Connection: close")
    elif head is not None and head.version < (1, 1):
        lines.append("Connection: keep-alive")
    body = b"" if bodiless or is_head else answer.body
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _length(answer: Answer, names: Iterable[str]) -> int:
    """The length that the same GET would have, which only the application knows."""
    if "content-length" in names and not answer.body:
        return next(
            int(value) for name, value in answer.headers if name.lower() == "content-length"
        )
    return len(answer.body)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _end(transport: asyncio.BaseTransport, which: str) -> tuple[str, int]:
    """One end's address and port."""
    name = transport.get_extra_info(which) or ("", 0)
    return str(name[0]), int(name[1])
