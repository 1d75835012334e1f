"""Who was refused what, by which guard and why: one line of the log for each refusal.

A flood of refusals must not become a flood of lines. Each guard, in each process, writes a few
lines a second; the others are counted, and the count is written once a second. The metrics count
every one of them.
"""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

LINES_A_SECOND = 20
"""Of each guard in each process."""
LONGEST_DETAIL = 500
LONGEST_URL = 200

logger = logging.getLogger("tensorgate.audit")

_URL = re.compile(
    r"(?P<scheme>https?:|[A-Za-z][A-Za-z0-9+.-]*:(?=[/\\]))?(?P<slashes>[/\\]*)(?P<host>[^/\\]*)",
    re.IGNORECASE,
)
_HOST = re.compile(r"([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]*\])(:[0-9]+)?")


class Throttle:
    """So many of each sort in a second of the clock; the others are counted.

    Args:
        most: how many.
        clock: seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._second = -1
        self._passed: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    def passes(self, sort: str) -> bool:
        """Whether one more of a sort may pass now."""
        with self._lock:
            second = int(self._clock())
            if second != self._second:
                self._second = second
                self._passed.clear()
            self._passed[sort] += 1
            passes = self._passed[sort] <= self._most
            if not passes:
                self._dropped[sort] += 1
            return passes

    def take_dropped(self) -> dict[str, int]:
        """How many of each sort did not pass since this was last asked."""
        with self._lock:
            dropped, self._dropped = self._dropped, Counter()
            return dict(dropped)


_throttle = Throttle(LINES_A_SECOND)


def refused(guard: str, detail: str, fields: Mapping[str, Any]) -> None:
    """Write the line of a refusal, unless its guard has written enough in this second.

    Args:
        guard: the slug of the error: never a caller's text.
        detail: what the operator should know of it.
        fields: the request, as `logs.request_fields` has it, and what else is known.
    """
    if _throttle.passes(guard):
        line = {"guard": guard, "detail": detail[:LONGEST_DETAIL], **fields}
        logger.warning("refused", extra={"fields": line})


def flush() -> None:
    """Say how many refusals were not written; to be called about once a second."""
    for guard, lines in _throttle.take_dropped().items():
        fields = {"guard": guard, "refusals": lines}
        logger.warning("refusals not written", extra={"fields": fields})


def plain_url(text: str) -> str:
    """A caller's URL as it may be logged: without query, fragment and userinfo, and cut.

    It is any text, a wrong one too: what stands before an `@` in the place of the host is left out
    wherever a lenient reader might see that place. Where no host is found there, as behind a blank
    or with a `/` in a password, all that stands before the last `@` is.
    """
    before_query = re.split(r"[?#]", text, maxsplit=1)[0]
    found = _URL.match(before_query)
    if found is None:  # it cannot be: each part may be empty
        return ""
    start, host = (found["scheme"] or "") + found["slashes"], found["host"].rpartition("@")[2]
    plain = start + host + before_query[found.end() :]
    if "@" in text and not _HOST.fullmatch(host):
        plain = before_query.rpartition("@")[2] if "@" in before_query else start
    return plain[:LONGEST_URL]
