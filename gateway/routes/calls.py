"""What each request brings from the shell that read it, whichever route it takes."""

import logging
import uuid

from flask import Response, g, request
from werkzeug.exceptions import HTTPException

from gateway import audit, logs, problem
from gateway.callers import Caller
from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import CallerGone, GatewayError, Kind
from gateway.scoring.parts import URL, Context, Picture
from gateway.scoring.stages import Stages

REFUSED = frozenset({Kind.INVALID, Kind.REFUSED, Kind.NOT_FOUND, Kind.LIMITED, Kind.OVERLOADED})
"""The kinds that say no to a caller, rather than that something failed."""

logger = logging.getLogger("tensorgate.errors")


def request_id() -> str:
    """The request's id: the shell's, or a new one where there is no shell."""
    if "request_id" not in g:
        g.request_id = request.environ.get("tensorgate.request_id") or str(uuid.uuid4())
    known: str = g.request_id
    return known


def context(timeout: float) -> Context:
    """The request's clock, its caller's presence and its stages, as the shell started them."""
    environ = request.environ
    return Context(
        deadline=environ.get("tensorgate.deadline") or Deadline.after(timeout),
        cancelled=environ.get("tensorgate.cancelled") or Cancellation(),
        stages=Stages(environ.get("tensorgate.queue_seconds", 0.0)),
    )


def count_pictures(pictures: int) -> None:
    """Count the request's pictures for whoever asks for them.

    Raises:
        RateLimited: they are too many now.
    """
    count = request.environ.get("tensorgate.count_pictures")
    if count is not None:
        count(pictures)


def log_error(error: GatewayError, picture: Picture | None = None) -> None:
    """Write down what only the operator may read of a failure; our own mistakes with a trace.

    picture: the one that it happened with, if it was only one.
    """
    fields = {"request_id": request_id(), "error": error.slug, "detail": error.log_detail}
    if error.kind in REFUSED and not isinstance(error, CallerGone):
        _log_refusal(error.slug, error.log_detail or error.message, picture or g.get("picture"))
    elif error.kind is Kind.INTERNAL:
        logger.error("%s", error.message, extra={"fields": fields}, exc_info=error)
    elif error.log_detail:
        logger.info("%s", error.message, extra={"fields": fields})


def _log_refusal(guard: str, detail: str, picture: Picture | None = None) -> None:
    environ = request.environ
    caller = environ.get("tensorgate.caller") or Caller(environ.get("REMOTE_ADDR", ""))
    fields = logs.request_fields(request.method, environ["PATH_INFO"], request_id(), caller)
    if isinstance(picture, URL):
        fields["url"] = audit.plain_url(picture.text)
    audit.refused(guard, detail, fields)


def json_response(document: dict[str, object], status: int = 200) -> Response:
    """The document as JSON, its members in their order."""
    return Response(problem.encode(document), status, mimetype="application/json")


def problem_response(document: dict[str, object]) -> Response:
    """The problem as an answer of its own status."""
    status = int(str(document["status"]))
    return Response(problem.encode(document), status, content_type=problem.CONTENT_TYPE)


def response_of_error(error: GatewayError) -> Response:
    """The answer to a failure that callers may hear of."""
    response = problem_response(problem.problem_of_error(error, request_id()))
    seconds = problem.retry_after(error)
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)
    return response


def response_of_http_error(error: HTTPException) -> Response:
    """The answer to what HTTP itself names, its own headers (Allow, …) kept."""
    status = error.code or 500
    description = error.description or error.name
    document = problem.problem_of_status(status, description, request_id())
    if status < 500:
        _log_refusal(document["type"].rpartition(":")[2], description)
    response = problem_response(document)
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response
