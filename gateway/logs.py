"""The log: one JSON object a line on standard error.

Every line has `time`, `level`, `logger` and `message`; a request's line adds what was asked, what
was answered and how long each stage took. JSON escapes whatever a caller sent, so no line can be
forged. A query string is never logged, a path only up to 200 characters, and an API key nowhere.
"""

import contextlib
import json
import logging
import os
import re
import select
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from gunicorn import glogging

from gateway.callers import Caller
from gateway.keys import PREFIX

if TYPE_CHECKING:
    from gateway.server.answers import Answer
    from gateway.server.head import Head
    from gateway.server.wsgi import Call

LONGEST_PATH = 200
LINES_WAITING = 10_000
FIELDS_OF_ANSWER = {
    "model": "x-model-name",
    "version": "x-model-version",
    "timing": "server-timing",
}
"""What a request's line takes from the application's answer, where that has it."""

_KEY = re.compile(PREFIX + "[A-Za-z0-9_-]{30,}")
"""What begins like one of our API keys, wherever a caller has put it, and however it was cut."""

access_log = logging.getLogger("tensorgate.access")


class JSONLines(logging.Formatter):
    """One JSON object a line; `extra={"fields": {…}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _KEY.sub("(an API key)", json.dumps(line, default=str))


class UnhurriedHandler(logging.Handler):
    """Writes lines to a descriptor that may not take them: who reads the log must not stop us.

    A pipe whose reader is stuck is full after 64 KiB, and a blocking write to it would stop the
    event loop with every request. Here lines wait in memory, up to LINES_WAITING, and go out with
    the lines after them; beyond that the oldest are lost, and the next line that can be written
    says how many.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Line up the record and write what can be written; called with the handler's lock."""
        if len(self._waiting) == LINES_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(self.format(record).encode() + b"\n")
        self._write()

    def flush(self) -> None:
        """Write what can be written now."""
        with self.lock or contextlib.nullcontext():
            self._write()

    def _write(self) -> None:
        while self._waiting and self._poll.poll(0):
            if self._lost:
                lost = logging.makeLogRecord(
                    {"msg": f"{self._lost} lines of the log were lost", "levelname": "WARNING"}
                )
                self._waiting.appendleft(self.format(lost).encode() + b"\n")
                self._lost = 0
            line = self._waiting.popleft()
            with contextlib.suppress(OSError):  # whoever read the log is gone: nobody to tell
                written = os.write(self._descriptor, line[: select.PIPE_BUF])
                if written < len(line):
                    self._waiting.appendleft(line[written:])


def configure(level: str) -> None:
    """Send every logger's lines to standard error."""
    handler = UnhurriedHandler(sys.stderr.fileno())
    handler.setFormatter(JSONLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def flush() -> None:
    """Write the lines that wait, as far as they can be."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class ServerLog(glogging.Logger):  # type: ignore[misc]
    """gunicorn's own messages, as lines of the same log."""

    def setup(self, cfg: Any) -> None:
        """Leave it all to the root logger."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True


def access(
    head: "Head | None", answer: "Answer", request_id: str, caller: Caller, seconds: float
) -> None:
    """Write the line of a request that was answered."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    fields = fields_of_head(head, request_id, caller)
    fields |= {"status": answer.status, "seconds": round(seconds, 6), "bytes": len(answer.body)}
    if answer.refused:
        fields["refused"] = answer.refused
    for field, name in FIELDS_OF_ANSWER.items():
        value = answer.header(name)
        if value is not None:
            fields[field] = value
    access_log.info("request", extra={"fields": fields})


def caller_gone(call: "Call") -> None:
    """Write the line of a request whose caller hung up."""
    fields = fields_of_head(call.head, call.request_id, call.caller)
    access_log.info("caller gone", extra={"fields": fields})


def fields_of_head(head: "Head | None", request_id: str, caller: Caller) -> dict[str, Any]:
    """What a line says of a request, whose head may have been too broken to be read."""
    method, path = (head.method, head.path) if head else ("", "")
    return request_fields(method, path, request_id, caller)


def request_fields(method: str, path: str, request_id: str, caller: Caller) -> dict[str, Any]:
    """What a line says of a request: who asked for what."""
    fields = {"request_id": request_id, "caller": caller.address}
    if caller.proxy:
        fields["proxy"] = caller.proxy
    if caller.key:
        fields["key"] = caller.key
    return {**fields, "method": method, "path": path[:LONGEST_PATH]}
