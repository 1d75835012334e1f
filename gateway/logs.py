"""The log: one JSON object a line on standard error.

Every line has `time`, `level`, `logger` and `message`; a request's line adds what was asked, what
was answered and how long each stage took. JSON escapes whatever a caller sent, so no line can be
forged. A query string is never logged, and a path only up to 200 characters.
"""

import json
import logging
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from gunicorn import glogging

from gateway.head import Head

if TYPE_CHECKING:
    from gateway.server import Answer, Peer, Shell

LONGEST_PATH = 200

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


def new_request_id() -> str:
    """An id for a request that brought none."""
    return str(uuid.uuid4())


def access(
    shell: "Shell",
    peer: "Peer",
    head: Head | None,
    answer: "Answer",
    request_id: str,
    started: float,
) -> None:
    """Write a request's line."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    fields: dict[str, Any] = {
        "request_id": request_id,
        "caller": peer.caller[0],
        "method": head.method if head else "",
        "path": head.path[:LONGEST_PATH] if head else "",
        "status": answer.status,
        "seconds": round(time.monotonic() - started, 6),
        "bytes": len(answer.body),
    }
    headers = {name.lower(): value for name, value in answer.headers}
    for field, name in (("model", "x-model-name"), ("version", "x-model-version")):
        if name in headers:
            fields[field] = headers[name]
    if "server-timing" in headers:
        fields["timing"] = headers["server-timing"]
    if shell.draining:
        fields["draining"] = True
    access_log.info("request", extra={"fields": fields})
