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
)
from gateway.model_client.failures import Unreachable
from gateway.model_client.messages import ModelSpec

_Code = grpc.StatusCode


@dataclass(frozen=True)
class Outcome:
    """What a status means: the error and its sentence."""

    error: type[GatewayError]
    sentence: str
    retry_after: int | None = None


_FAILED = Outcome(ModelFailed, "TensorFlow Serving failed on {spec}.")
_REJECTED = Outcome(ModelRejectedInput, "TensorFlow Serving refused the request for {spec}.")
_ABSENT = Outcome(ModelNotFound, "TensorFlow Serving does not have {spec}.")
_FULL = Outcome(ModelOverloaded, "TensorFlow Serving has too much to do for {spec}.", retry_after=1)
_FORBIDDEN = Outcome(ModelFailed, "TensorFlow Serving does not let this gateway call {spec}.")

OUTCOMES: tuple[tuple[Any, str, Outcome], ...] = (
    (
        _Code.CANCELLED,
        "",
        Outcome(Unreachable, "The call of {spec} was cut off.", retry_after=1),
    ),
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
    (_Code.RESOURCE_EXHAUSTED, "received metadata size exceeds", _FAILED),
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
        Outcome(Unreachable, "TensorFlow Serving cannot be reached for {spec}.", retry_after=1),
    ),
    (_Code.DATA_LOSS, "", _FAILED),
    (_Code.UNAUTHENTICATED, "", _FORBIDDEN),
)
"""Status, a part of its details or empty for any, and what it means. The first row that fits holds.

A full batching queue is UNAVAILABLE like an unreachable server, but another try would only add to
the load.
"""


def error_of(code: Any, details: str, spec: ModelSpec) -> GatewayError:
    """The error to raise for a status; the server's own words go to the log only."""
    outcome = _outcome_of(code, details)
    message = outcome.sentence.format(spec=spec)
    log_detail = f"{code.name}: {details}"
    if outcome.error is ModelNotFound:
        return ModelNotFound(message, log_detail=log_detail, version_named=spec.names_version)
    return outcome.error(message, log_detail=log_detail, retry_after=outcome.retry_after)


def _outcome_of(code: Any, details: str) -> Outcome:
    for row_code, part, outcome in OUTCOMES:
        if row_code is code and part in details:
            return outcome
    return _FAILED
