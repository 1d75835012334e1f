"""The log: one JSON object a line on standard error.

Every line has `time`, `level`, `logger` and `message`; a request's line adds what was asked, what
was answered and how long each stage took. JSON escapes whatever a caller sent, so no line can be
forged. A query string is never logged, and a path only up to 200 characters.
"""

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from gunicorn import glogging

if TYPE_CHECKING:
    from gateway.server.answers import Answer
    from gateway.server.head import Head
    from gateway.server.wsgi import Call, Peer

LONGEST_PATH = 200
FIELDS_OF_ANSWER = {
    "model": "x-model-name",
    "version": "x-model-version",
    "timing": "server-timing",
}
"""What a request's line takes from the application's answer, where that has it."""

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
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Send every logger's lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class ServerLog(glogging.Logger):  # type: ignore[misc]
    """gunicorn's own messages, as lines of the same log."""

    def setup(self, cfg: Any) -> None:
        """Leave it all to the root logger."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True


def access(
    head: "Head | None", answer: "Answer", request_id: str, peer: "Peer", seconds: float
) -> None:
    """Write the line of a request that was answered."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    fields = _request_fields(head, request_id, peer)
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
    fields = _request_fields(call.head, call.request_id, call.peer)
    access_log.info("caller gone", extra={"fields": fields})


def _request_fields(head: "Head | None", request_id: str, peer: "Peer") -> dict[str, Any]:
    return {
        "request_id": request_id,
        "caller": peer.caller[0],
        "method": head.method if head else "",
        "path": head.path[:LONGEST_PATH] if head else "",
    }
