"""What lets web pages of other origins read answers (the Fetch standard's CORS protocol).

Which origins may call at all is judged by `gateway/admission.py`; an origin that gets here may.
There are no credentials in this: a page never acts with what a browser remembers.
"""

from collections.abc import Sequence

from gateway.server.answers import Answer
from gateway.server.head import Head

METHODS = "GET, HEAD, POST, OPTIONS"
REQUEST_FIELDS = "Accept, Authorization, Content-Type, X-API-Key, X-Request-ID"
ANSWER_FIELDS = "Retry-After, Server-Timing, X-Model-Name, X-Model-Version, X-Request-ID"
PREFLIGHT_SECONDS = 600


def fields(head: Head, allowed_origins: Sequence[str]) -> list[tuple[str, str]]:
    """The fields of an answer to a page; none where no page asked."""
    origin = head.header("origin")
    if not origin:
        return []
    return [
        ("Access-Control-Allow-Origin", "*" if "*" in allowed_origins else origin),
        ("Access-Control-Expose-Headers", ANSWER_FIELDS),
        ("Vary", "Origin"),
    ]


def preflight(head: Head) -> Answer | None:
    """The answer to a browser that asks whether a page may call, or None for any other request."""
    if head.method != "OPTIONS" or not head.header("origin"):
        return None
    if not head.header("access-control-request-method"):
        return None
    headers = (
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", REQUEST_FIELDS),
        ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
    )
    return Answer(204, headers, b"")
