"""gRPC's statuses, as the errors they mean to our callers: one table."""

from dataclasses import dataclass
from typing import Any

import grpc

from gateway.errors import (
    DeadlineExceeded,
    GatewayError,
    ModelFailed,
    ModelNotFound,
    ModelOverloaded,
    ModelRejectedInput,
    ModelUnavailable,
)
from gateway.model_client.messages import ModelSpec

_Code = grpc.StatusCode


@dataclass(frozen=True)
class Outcome:
    """What a status means: the error, its sentence, and whether another try can help at once."""

    error: type[GatewayError]
    sentence: str
    retried: bool = False
    retry_after: int | None = None


_FAILED = Outcome(ModelFailed, "TensorFlow Serving failed on {spec}.")
_REJECTED = Outcome(ModelRejectedInput, "TensorFlow Serving refused the request for {spec}.")
_ABSENT = Outcome(ModelNotFound, "TensorFlow Serving does not have {spec}.")
_FULL = Outcome(ModelOverloaded, "TensorFlow Serving has too much to do for {spec}.", retry_after=1)
_FORBIDDEN = Outcome(ModelFailed, "TensorFlow Serving does not let this gateway call {spec}.")

OUTCOMES: tuple[tuple[Any, str, Outcome], ...] = (
    (_Code.CANCELLED, "", Outcome(ModelUnavailable, "The call of {spec} was cut off.")),
    (_Code.UNKNOWN, "", _FAILED),
    (_Code.INVALID_ARGUMENT, "Unrecognized servable version label", _ABSENT),
    (_Code.INVALID_ARGUMENT, "", _REJECTED),
    (
        _Code.DEADLINE_EXCEEDED,
        "",
        Outcome(DeadlineExceeded, "The time for this request ran out waiting for {spec}."),
    ),
    (_Code.NOT_FOUND, "", _ABSENT),
    (_Code.ALREADY_EXISTS, "", _FAILED),
    (_Code.PERMISSION_DENIED, "", _FORBIDDEN),
    (
        _Code.RESOURCE_EXHAUSTED,
        "CLIENT: Received message larger than max",
        Outcome(ModelFailed, "The answer of {spec} is larger than this gateway reads."),
    ),
    (
        _Code.RESOURCE_EXHAUSTED,
        "message larger than max",
        Outcome(ModelRejectedInput, "The request is larger than TensorFlow Serving reads."),
    ),
    (_Code.RESOURCE_EXHAUSTED, "", _FULL),
    (_Code.FAILED_PRECONDITION, "", _REJECTED),
    (_Code.ABORTED, "", _FAILED),
    (_Code.OUT_OF_RANGE, "", _REJECTED),
    (_Code.UNIMPLEMENTED, "", Outcome(ModelFailed, "What answers for {spec} cannot predict.")),
    (_Code.INTERNAL, "", _FAILED),
    (_Code.UNAVAILABLE, "batch scheduling queue", _FULL),
    (
        _Code.UNAVAILABLE,
        "",
        Outcome(
            ModelUnavailable,
            "TensorFlow Serving cannot be reached for {spec}.",
            retried=True,
            retry_after=1,
        ),
    ),
    (_Code.DATA_LOSS, "", _FAILED),
    (_Code.UNAUTHENTICATED, "", _FORBIDDEN),
)
"""Status, a part of its details or empty for any, and what it means. The first row that fits holds.

A full batching queue is UNAVAILABLE like an unreachable server, but another try would only add to
the load.
"""


def outcome_of(code: Any, details: str) -> Outcome:
    """The table's row for a status."""
    for row_code, part, outcome in OUTCOMES:
        if row_code is code and part in details:
            return outcome
    return _FAILED


def error_of(outcome: Outcome, spec: ModelSpec, code: Any, details: str) -> GatewayError:
    """The error to raise; the server's own words go to the log only."""
    message = outcome.sentence.format(spec=spec)
    log_detail = f"{code.name}: {details}"
    if outcome.error is ModelNotFound:
        return ModelNotFound(message, log_detail=log_detail, version_named=spec.names_version)
    return outcome.error(message, log_detail=log_detail, retry_after=outcome.retry_after)
