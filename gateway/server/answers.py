"""Whole answers, and their bytes."""

from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from gateway import problem
from gateway.server.head import Head
from gateway.server.refusals import Refusal

HOP_BY_HOP = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive"})
WITHOUT_BODY = frozenset({204, 304})
PROTECTION = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""What keeps a browser from keeping, running, framing, embedding or guessing at an answer.

Pages of other origins that may call (`cross_origin.py`) read answers all the same: they ask by
CORS, to which Cross-Origin-Resource-Policy does not apply (Fetch standard, section 3.7).
"""


@dataclass(frozen=True)
class Answer:
    """A whole answer to one request; `refused` is the slug where the server made it by itself."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    refused: str = ""

    def header(self, name: str) -> str | None:
        """The first field of that name, which is in lower case."""
        return next((value for field, value in self.headers if field.lower() == name), None)


def of_refusal(refusal: Refusal, request_id: str) -> Answer:
    """The answer that a refusal is."""
    headers = (("Content-Type", problem.CONTENT_TYPE), *refusal.headers)
    return Answer(refusal.status, headers, refusal.body(request_id), refusal.slug)


def protection(answer: Answer) -> list[tuple[str, str]]:
    """The fields of PROTECTION, but those that the application has set by itself."""
    return [(name, value) for name, value in PROTECTION if answer.header(name.lower()) is None]


def encode(answer: Answer, head: Head | None, extra: tuple[tuple[str, str], ...]) -> bytes:
    """An answer's bytes; `extra` are the server's own fields.

    What frames an answer is the server's alone: the application's Connection, Content-Length and
    Transfer-Encoding are left out.
    """
    lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}"]
    lines += [
        f"{name}: {value}"
        for name, value in (*answer.headers, *extra)
        if name.lower() not in HOP_BY_HOP or (name, value) in extra
    ]
    lines.append(f"Date: {formatdate(usegmt=True)}")
    body = answer.body
    if answer.status in WITHOUT_BODY:
        body = b""
    else:
        lines.append(f"Content-Length: {_length(answer, head)}")
    if head is not None and head.method == "HEAD":
        body = b""
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _length(answer: Answer, head: Head | None) -> int:
    """The body's length; for HEAD, the length that the application says GET would have."""
    said = answer.header("content-length")
    if head is not None and head.method == "HEAD" and not answer.body and said:
        return int(said)
    return len(answer.body)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
