"""What the server answers by itself, before or instead of the application: every text in one place.

A refusal is an HTTP answer that can be raised. Its slug is also the `reason` that metrics and the
access log give, so slugs come from this file and never from a caller.
"""

from collections.abc import Sequence

from gunicorn.asgi import parser as http

from gateway import problem
from gateway.errors import DeadlineExceeded, GatewayError, InternalError, Overloaded

MAX_REQUEST_LINE = 8190
MAX_HEADER_FIELDS = 100
MAX_HEADER_FIELD = 8190
CHALLENGE = 'Bearer realm="tensorgate"'
"""How to show who one is (RFC 6750 section 3)."""

Headers = Sequence[tuple[str, str]]


class Refusal(Exception):
    """An answer of the server's own: the status, a stable slug, a title and a sentence."""

    def __init__(
        self, status: int, slug: str, title: str, detail: str, headers: Headers = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.headers = tuple(headers)

    def body(self, request_id: str) -> bytes:
        """The answer's body, the one JSON shape of errors."""
        document = problem.problem(self.status, self.slug, self.title, self.detail, request_id)
        return problem.encode(document)


def _of_status(status: int, detail: str, headers: Headers = ()) -> Refusal:
    return Refusal(status, *problem.OF_HTTP[status], detail, headers)


def of_error(error: GatewayError) -> Refusal:
    """The refusal that says what an error of the gateway's tree says."""
    seconds = problem.retry_after(error)
    headers = [("Retry-After", str(seconds))] if seconds is not None else []
    status = problem.STATUS_OF_KIND[error.kind]
    return Refusal(status, error.slug, error.title, error.message, headers)


def of_parse_error(error: http.ParseError | ValueError) -> Refusal:
    """The parser's objection, in our words: its own may hold the caller's bytes."""
    if isinstance(error, http.LimitRequestLine):
        return target_too_long()
    if isinstance(error, http.LimitRequestHeaders):
        return head_too_large()
    if isinstance(error, http.UnsupportedTransferCoding):
        return coding_not_implemented()
    return malformed("The request is not HTTP/1.1 as RFC 9112 defines it.")


def malformed(detail: str) -> Refusal:
    """The bytes are not one well-formed HTTP request."""
    return Refusal(400, "malformed-http", "The HTTP request is malformed", detail)


def key_missing() -> Refusal:
    """No API key, where one is needed."""
    detail = "Send an API key, as `Authorization: Bearer` and the key, or as X-API-Key."
    return _of_status(401, detail, [("WWW-Authenticate", CHALLENGE)])


def key_not_valid(detail: str) -> Refusal:
    """Something in place of an API key that is none."""
    challenge = f'{CHALLENGE}, error="invalid_token"'
    return _of_status(401, detail, [("WWW-Authenticate", challenge)])


def origin_not_allowed() -> Refusal:
    """A web page of an origin that the settings do not name."""
    detail = (
        "Web pages of this origin may not call the gateway; ALLOWED_ORIGINS names those that may."
    )
    return _of_status(403, detail)


def method_not_allowed(allowed: str) -> Refusal:
    """A method that no address of this server knows."""
    detail = f"The server does not know this method; it knows {allowed}."
    headers = [("Allow", allowed)]
    return _of_status(405, detail, headers)


def too_slow(part: str, seconds: float) -> Refusal:
    """A head or a body that did not arrive in time."""
    detail = f"The request's {part} did not arrive within {seconds:g} seconds."
    return _of_status(408, detail)


def length_required() -> Refusal:
    """A method that carries a body, without a word on how long it is."""
    detail = (
        "The request has no body, or does not say how long it is: send one with Content-Length or "
        "Transfer-Encoding: chunked."
    )
    return _of_status(411, detail)


def too_large(limit: int) -> Refusal:
    """A body over the limit of its content type."""
    detail = f"The body is larger than {limit} bytes, the most for its Content-Type."
    return _of_status(413, detail)


def target_too_long() -> Refusal:
    """A request line over the limit."""
    detail = (
        f"The request line is longer than {MAX_REQUEST_LINE} bytes; send long values in the body."
    )
    return _of_status(414, detail)


def encoding_not_supported() -> Refusal:
    """A compressed body."""
    detail = "Send the body as it is: a Content-Encoding is not accepted."
    return _of_status(415, detail)


def expectation_failed() -> Refusal:
    """An Expect header other than 100-continue."""
    detail = "The only expectation that can be met is 100-continue."
    return _of_status(417, detail)


def host_not_allowed() -> Refusal:
    """A Host header that the settings do not name."""
    detail = "The gateway does not answer under this host name; ALLOWED_HOSTS names those it knows."
    return _of_status(421, detail)


def head_too_large() -> Refusal:
    """Too many header fields, or too long ones."""
    detail = (
        f"The header fields are too many or too long: the most is {MAX_HEADER_FIELDS} fields, "
        f"each of {MAX_HEADER_FIELD} bytes."
    )
    return _of_status(431, detail)


def coding_not_implemented() -> Refusal:
    """A Transfer-Encoding other than chunked alone."""
    detail = "The only Transfer-Encoding that is understood is chunked."
    return _of_status(501, detail)


def loop_detected() -> Refusal:
    """A fetch of the gateway's own."""
    detail = "The request was sent by this gateway itself: a picture's URL leads back to it."
    return _of_status(508, detail)


def overloaded(detail: str = "The gateway has no room for this request; try again.") -> Refusal:
    """No place is free."""
    return of_error(Overloaded(detail))


def overdue() -> Refusal:
    """The deadline passed before there was an answer."""
    return of_error(DeadlineExceeded("The time for this request ran out."))


def internal_error() -> Refusal:
    """The application failed in a way that is our own mistake."""
    return of_error(InternalError(problem.INTERNAL_DETAIL))
