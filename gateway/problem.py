"""What an error looks like to a caller: one JSON shape, RFC 9457 `application/problem+json`.

Pure functions, no web framework: the shell in front of Flask answers its own errors with them too.
"""

import json
import uuid
from http import HTTPStatus
from typing import Any

from gateway.errors import GatewayError, Kind, OriginFailed

CONTENT_TYPE = "application/problem+json"

STATUS_OF_KIND = {
    Kind.INVALID: 400,
    Kind.REFUSED: 422,
    Kind.NOT_FOUND: 404,
    Kind.LIMITED: 429,
    Kind.OVERLOADED: 503,
    Kind.UNAVAILABLE: 503,
    Kind.DEADLINE: 504,
    Kind.UPSTREAM: 502,
    Kind.INTERNAL: 500,
}
"""The HTTP door's one table from an error's kind to its status."""

OF_HTTP = {
    401: ("unauthorized", "A valid API key is needed"),
    403: ("origin-not-allowed", "The origin is not allowed"),
    404: ("not-found", "There is nothing at this path"),
    405: ("method-not-allowed", "The method is not allowed"),
    408: ("request-timeout", "The request arrived too slowly"),
    411: ("length-required", "The body's length is missing"),
    413: ("content-too-large", "The body is too large"),
    414: ("uri-too-long", "The address is too long"),
    415: ("unsupported-media-type", "The body's form is not supported"),
    417: ("expectation-failed", "The expectation cannot be met"),
    421: ("host-not-allowed", "The host is not known here"),
    431: ("header-fields-too-large", "The header fields are too large"),
    501: ("not-implemented", "The transfer coding is not implemented"),
    508: ("loop-detected", "The gateway has called itself"),
}
"""Slug and title of what is wrong with a request as HTTP, whoever finds it."""

RETRY_AFTER_SECONDS = 1
"""Sent with every 503 whose error knows nothing better."""

INTERNAL_DETAIL = "Something went wrong in the gateway. Its log has the request's id and the cause."


def problem(
    status: int,
    slug: str,
    title: str,
    detail: str,
    request_id: str,
    instance: str = "",
    **extra: Any,
) -> dict[str, Any]:
    """The members of a problem document, in the order they are written.

    Args:
        status: the HTTP status.
        slug: the stable name of this sort of error.
        title: the sort of error in words, the same for each occurrence.
        detail: what happened this time and what to do; `error` repeats it, because clients of
            TensorFlow Serving look there.
        request_id: what the log calls this request.
        instance: which occurrence; empty means `urn:uuid:` of the request id where that is a
            UUID, else `urn:tensorgate:request:` and the id.
        extra: further members, such as `origin_status`.
    """
    return {
        "type": f"urn:tensorgate:problem:{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance or _instance(request_id),
        "request_id": request_id,
        "error": detail,
        **extra,
    }


def problem_of_status(
    status: int, detail: str, request_id: str, instance: str = "", **extra: Any
) -> dict[str, Any]:
    """A problem that HTTP itself names; one that is not in OF_HTTP is called by its phrase."""
    phrase = HTTPStatus(status).phrase
    slug, title = OF_HTTP.get(status) or (phrase.lower().replace(" ", "-"), phrase)
    return problem(status, slug, title, detail, request_id, instance, **extra)


def problem_of_error(error: GatewayError, request_id: str, instance: str = "") -> dict[str, Any]:
    """The problem for an error of ours, its status by the table of kinds."""
    extra: dict[str, Any] = {}
    if isinstance(error, OriginFailed) and error.origin_status is not None:
        extra["origin_status"] = error.origin_status
    status = STATUS_OF_KIND[error.kind]
    detail = error.message
    return problem(status, error.slug, error.title, detail, request_id, instance, **extra)


def retry_after(error: GatewayError) -> int | None:
    """Seconds for the header Retry-After, or None where the header is not sent."""
    if error.retry_after is not None:
        return error.retry_after
    return RETRY_AFTER_SECONDS if STATUS_OF_KIND[error.kind] == 503 else None


def encode(document: dict[str, Any]) -> bytes:
    """The document as JSON: ASCII, because a caller's lone surrogate has no UTF-8, and no NaN."""
    return json.dumps(document, allow_nan=False).encode("ascii") + b"\n"


def _instance(request_id: str) -> str:
    try:
        return uuid.UUID(request_id).urn
    except ValueError:
        return f"urn:tensorgate:request:{request_id}"
