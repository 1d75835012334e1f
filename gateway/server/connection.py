"""One caller's connection: bytes in, bytes out, and a clock on every wait.

Reading and writing happen on the event loop, so that a slow caller costs a socket and no thread.
The parser is the one that gunicorn wrote for its asyncio worker. At any moment a connection is in
one phase and has one timer:

    WAITING -> HEAD -> BODY -> SERVING -> WRITING -> WAITING … or LINGERING -> closed
"""

import asyncio
import enum
import select
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import cast

from gunicorn.asgi import parser as http

from gateway import audit, logs
from gateway.callers import find_caller
from gateway.deadline import Deadline
from gateway.server import answers, cross_origin, refusals
from gateway.server.answers import Answer
from gateway.server.head import Head, read_head, request_id_of
from gateway.server.refusals import Refusal
from gateway.server.shell import Shell
from gateway.server.wsgi import Call, Peer

MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED_BYTES = 64 * 1024
"""Bytes behind a request that is being served; beyond them the socket is not read."""
LOOK_SECONDS = 0.2
"""How often it is seen whether a caller is still there whose bytes are not read."""
MANY_CHUNKS, SMALL_CHUNK = 1000, 256
"""More chunks than this, of fewer bytes on average, are work that serves nobody."""
OVERDUE_GRACE = 0.5
"""Seconds that the application has, past the deadline, to say so itself."""
LINGER_SECONDS = 2.0
"""How long what a refused caller still sends is thrown away, so that it can read its answer."""


class Phase(enum.Enum):
    """What a connection waits for."""

    WAITING = "the first byte of a request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    SERVING = "the application"
    WRITING = "the caller to take its answer"
    LINGERING = "the end of what a caller sends though it has been answered"
    CLOSED = "nothing"


_HUNG_UP = getattr(select, "POLLRDHUP", 0)
"""What Linux reports of a socket behind whose unread bytes there is the end; POLLHUP always is."""
_READING = frozenset({Phase.WAITING, Phase.HEAD, Phase.BODY})


class Connection(asyncio.Protocol):
    """The protocol of one connection to a shell's address."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._settings = shell.settings
        self._parser = http.PythonProtocol(
            on_headers_complete=self._on_head,
            on_body=self._on_body,
            limit_request_line=refusals.MAX_REQUEST_LINE,
            limit_request_fields=refusals.MAX_HEADER_FIELDS,
            limit_request_field_size=refusals.MAX_HEADER_FIELD,
        )
        self._phase = Phase.WAITING
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = True
        self._close_after = False
        self._surplus = bytearray()
        self._surplus_since = 0.0
        self._not_reading = False
        self._look: asyncio.TimerHandle | None = None
        self._call: Call | None = None
        self._leave: Callable[[], None] | None = None
        self._held = 0

    def _begin(self) -> None:
        """Forget the last request."""
        self._started = 0.0
        self._request_id = ""
        self._caller = find_caller(self._peer.caller[0], (), ())
        self._head: Head | None = None
        self._head_bytes = 0
        self._refusal: Refusal | None = None
        self._page_fields: list[tuple[str, str]] = []
        self._limit = 0
        self._chunks = 0
        self._body = bytearray()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self._peer = Peer(_end(transport, "peername"), _end(transport, "sockname"))
        self._begin()
        if self._shell.opened(self):
            self._wait(self._settings.head_timeout)
        else:
            self._started = time.monotonic()
            self._refuse(refusals.overloaded("Too many connections are open; try again."))

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, of the next one, or of nothing that matters any more."""
        if self._phase in _READING and not self._surplus:
            self._feed(data, time.monotonic())
        elif self._phase not in {Phase.LINGERING, Phase.CLOSED}:
            self._put_aside(data)

    def pause_writing(self) -> None:
        """A part of what was written waits in our memory."""
        self._flushed = False

    def resume_writing(self) -> None:
        """The kernel has taken all that was written."""
        self._flushed = True
        if self._phase is Phase.WRITING:
            self._written()

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone: nobody waits for an answer any more."""
        if self._call is not None:
            logs.caller_gone(self._call)
        self._phase = Phase.CLOSED
        self._clear_timer()
        self._end_call()
        self._let_body_go()
        self._shell.closed(self)

    # What the shell calls

    @property
    def finished(self) -> bool:
        """Whether the caller has all that it will get for all that it has asked."""
        return self._phase is Phase.LINGERING and self._parser.is_complete

    def cut(self) -> None:
        """End the connection now, with nothing more to say."""
        self._shell.works(self)
        self._transport.abort()

    def close_if_idle(self) -> None:
        """Close the connection if there is no request on it, not even one that is yet unread."""
        if self._phase is not Phase.WAITING:
            return
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        if not poll.poll(0):
            self._transport.close()

    # Reading

    def _wait(self, seconds: float) -> None:
        """Wait for a request's first byte."""
        self._phase = Phase.WAITING
        self._shell.waits(self)
        self._set_timer(seconds, self.close_if_idle)

    def _feed(self, data: bytes, since: float) -> None:
        """Parse bytes that were there at that time, and go on from what they complete."""
        if self._phase is Phase.WAITING:
            self._phase = Phase.HEAD
            self._started = since
            self._shell.waits(self)
            self._set_timer(self._settings.head_timeout, self._head_late)
        if self._phase is Phase.HEAD:
            self._head_bytes += len(data)
        was = self._phase
        try:
            self._parser.feed(data)
        except (http.ParseError, ValueError) as error:  # ValueError: a length of 4301 digits
            self._refusal = self._refusal or refusals.of_parse_error(error)
            self._close_after = True
        behind = self._parser.remaining()
        if behind:
            self._put_aside(behind)
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._parser.is_complete:
            self._serve()
        elif self._phase is not was:
            self._await_body()
        elif self._phase is Phase.HEAD and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(refusals.head_too_large())

    def _on_head(self) -> bool:
        """The parser has a whole head. Whether the body will be read is judged before it is."""
        self._phase = Phase.BODY
        self._request_id = request_id_of(self._parser)
        admission, access = self._shell.admission, self._shell.access
        try:
            self._head = head = read_head(self._parser)
            self._caller = access.identify(head, self._peer.caller[0])
            admission.check_caller(head)
            self._page_fields = cross_origin.fields(head, self._settings.allowed_origins)
            self._caller = access.check_key(head, self._caller)
            self._limit = admission.check_size(head)
            access.check_rate(head, self._caller)
        except Refusal as refusal:
            self._refusal = refusal
        return False

    def _on_body(self, chunk: bytes) -> None:
        """A piece of a body, kept unless the request is refused."""
        if self._refusal is not None:
            return
        self._chunks += 1
        size = len(self._body) + len(chunk)
        try:
            if size > self._limit:
                raise refusals.too_large(self._limit)
            if self._chunks > MANY_CHUNKS and size < self._chunks * SMALL_CHUNK:
                raise refusals.malformed("The body's chunks are too small and too many.")
            self._shell.admission.hold(self._held, len(chunk))
        except Refusal as refusal:
            self._refusal = refusal
        else:
            self._held += len(chunk)
            self._body += chunk

    def _await_body(self) -> None:
        """Wait for the rest of a body, with one clock for all of it."""
        remaining = self._deadline().remaining()
        self._set_timer(min(self._settings.body_timeout, remaining), self._body_late)
        if self._head is not None and self._head.expects_continue and not self._body:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _head_late(self) -> None:
        self._refuse(refusals.too_slow("head", self._settings.head_timeout))

    def _body_late(self) -> None:
        late = self._deadline().expired()
        refusal = refusals.too_slow("body", self._settings.body_timeout)
        self._refuse(refusals.overdue() if late else refusal)

    def _deadline(self) -> Deadline:
        return Deadline(self._started + self._settings.request_timeout)

    def _put_aside(self, data: bytes) -> None:
        """Keep what came behind the request that is being served."""
        if not self._surplus:
            self._surplus_since = time.monotonic()
        self._surplus += data
        if len(self._surplus) > MAX_PIPELINED_BYTES and not self._not_reading:
            self._not_reading = True
            self._transport.pause_reading()
            if self._look is None:
                self._look_for_caller()

    def _look_for_caller(self) -> None:
        """See whether a caller whose bytes are not read has hung up, now and again."""
        self._look = None
        if not self._not_reading or self._phase in {Phase.LINGERING, Phase.CLOSED}:
            return
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), _HUNG_UP)
        if poll.poll(0):
            self._transport.close()
        else:
            self._look = self._loop.call_later(LOOK_SECONDS, self._look_for_caller)

    # Serving

    def _serve(self) -> None:
        """The request is whole: queue it."""
        head = cast(Head, self._head)
        self._phase = Phase.SERVING
        self._shell.works(self)
        preflight = cross_origin.preflight(head)
        if preflight is not None:
            self._write(preflight)
            return
        body, self._body = bytes(self._body), bytearray()
        call = Call(
            head,
            body,
            self._request_id,
            self._deadline(),
            time.monotonic(),
            self._peer,
            self._caller,
            partial(self._shell.access.count_pictures, self._caller),
        )
        try:
            self._leave = self._shell.enter(call, lambda answer: self._answered(call, answer))
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self._call = call
        self._set_timer(call.deadline.remaining() + OVERDUE_GRACE, self._overdue)

    def _answered(self, call: Call, answer: Answer) -> None:
        """The application has answered; nobody may be waiting for it any more."""
        if call is self._call:
            self._end_call()
            self._write(answer)

    def _overdue(self) -> None:
        """The application has not even said that it is late."""
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
        """Answer by ourselves; the connection ends unless the whole request has been read."""
        self._shell.metrics.refused(refusal.slug)
        self._close_after = self._close_after or not self._parser.is_complete
        self._request_id = self._request_id or str(uuid.uuid4())
        fields = logs.fields_of_head(self._head, self._request_id, self._caller)
        self._write(answers.of_refusal(refusal, self._request_id))
        audit.refused(refusal.slug, refusal.detail, fields)

    def _write(self, answer: Answer) -> None:
        keep = self._head is not None and self._head.keep_alive
        self._close_after = self._close_after or not keep or self._shell.draining
        self._phase = Phase.WRITING
        self._shell.works(self)
        self._set_timer(self._settings.answer_timeout, self.cut)
        self._transport.write(answers.encode(answer, self._head, self._fields(answer)))
        logs.access(
            self._head, answer, self._request_id, self._caller, time.monotonic() - self._started
        )
        if self._flushed:
            self._written()

    def _fields(self, answer: Answer) -> tuple[tuple[str, str], ...]:
        """The server's own fields of an answer."""
        fields = answers.protection(answer)
        if answer.header("x-request-id") is None:
            fields.append(("X-Request-ID", self._request_id))
        fields += self._page_fields
        if self._close_after:
            fields.append(("Connection", "close"))
        elif self._head is not None and self._head.version < (1, 1):
            fields.append(("Connection", "keep-alive"))
        return tuple(fields)

    def _written(self) -> None:
        """The kernel has the answer: end, or go on with the next request."""
        self._let_body_go()
        if self._close_after:
            self._linger()
            return
        self._parser.reset()
        self._begin()
        self._wait(self._settings.keep_alive)
        if self._surplus:
            self._loop.call_soon(self._feed_surplus)

    def _feed_surplus(self) -> None:
        """Go on with what came behind the last request; its clock started when it came."""
        surplus, self._surplus = bytes(self._surplus), bytearray()
        if self._phase is Phase.CLOSED:
            return
        if self._not_reading:
            self._not_reading = False
            self._transport.resume_reading()
        self._feed(surplus, self._surplus_since)

    def _linger(self) -> None:
        """Say that no more comes, and throw away what the caller still sends.

        To close a socket that has unread bytes resets it, and the reset overtakes the answer.
        """
        self._phase = Phase.LINGERING
        self._shell.waits(self)
        self._set_timer(LINGER_SECONDS, self.cut)
        try:
            self._transport.write_eof()
        except OSError:  # it was reset since the answer was written
            self.cut()

    def _let_body_go(self) -> None:
        self._shell.admission.let_go(self._held)
        self._held = 0
        self._body = bytearray()

    def _set_timer(self, seconds: float, then: Callable[[], object]) -> None:
        self._clear_timer()
        self._timer = self._loop.call_later(seconds, then)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end(transport: asyncio.BaseTransport, which: str) -> tuple[str, int]:
    """One end's address and port."""
    name = transport.get_extra_info(which) or ("", 0)
    return str(name[0]), int(name[1])
