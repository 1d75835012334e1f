"""What each request brings from the shell that read it, whichever route it takes."""

import logging
import uuid

from flask import Response, g, request
from werkzeug.exceptions import HTTPException

from gateway import problem
from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import GatewayError, Kind
from gateway.scoring.parts import Context
from gateway.scoring.stages import Stages

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


def log_error(error: GatewayError) -> None:
    """Write down what only the operator may read of a failure; our own mistakes with a trace."""
    fields = {"request_id": request_id(), "error": error.slug, "detail": error.log_detail}
    if error.kind is Kind.INTERNAL:
        logger.error("%s", error.message, extra={"fields": fields}, exc_info=error)
    elif error.log_detail:
        logger.info("%s", error.message, extra={"fields": fields})


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
    document = problem.problem_of_status(status, error.description or error.name, request_id())
    response = problem_response(document)
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response
