"""What gRPC's statuses mean, with TensorFlow Serving's own texts for them."""

from typing import Any

import grpc
import pytest

from gateway import errors
from gateway.model_client.failures import Unreachable
from gateway.model_client.messages import ModelSpec
from gateway.model_client.statuses import OUTCOMES, error_of

LATEST = ModelSpec("clothing-model")
CODE = grpc.StatusCode

CASES: list[tuple[Any, str, type[errors.GatewayError]]] = [
    (CODE.NOT_FOUND, "Servable not found for request: Latest(x)", errors.ModelNotFound),
    (CODE.INVALID_ARGUMENT, "Unrecognized servable version label: x", errors.ModelNotFound),
    (CODE.INVALID_ARGUMENT, "input size does not match signature", errors.ModelRejectedInput),
    (CODE.FAILED_PRECONDITION, 'Serving signature key "x" not found.', errors.ModelRejectedInput),
    (CODE.OUT_OF_RANGE, "", errors.ModelRejectedInput),
    (
        CODE.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; task size is 1",
        errors.ModelOverloaded,
    ),
    (
        CODE.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
        errors.ModelOverloaded,
    ),
    (
        CODE.RESOURCE_EXHAUSTED,
        "SERVER: Received message larger than max (9 vs. 4)",
        errors.ModelRejectedInput,
    ),
    (CODE.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max", errors.ModelFailed),
    (
        CODE.RESOURCE_EXHAUSTED,
        "Stream removed (received metadata size exceeds hard limit (value length 9 vs. 4))",
        errors.ModelFailed,
    ),
    (CODE.UNAVAILABLE, "failed to connect to all addresses", Unreachable),
    (CODE.DEADLINE_EXCEEDED, "Timed out waiting for notification", errors.DeadlineExceeded),
    (CODE.CANCELLED, "", Unreachable),
    (CODE.INTERNAL, "", errors.ModelFailed),
    (CODE.UNKNOWN, "", errors.ModelFailed),
    (CODE.DATA_LOSS, "", errors.ModelFailed),
    (CODE.ABORTED, "", errors.ModelFailed),
    (CODE.ALREADY_EXISTS, "", errors.ModelFailed),
    (CODE.UNIMPLEMENTED, "", errors.ModelFailed),
    (CODE.PERMISSION_DENIED, "", errors.ModelFailed),
    (CODE.UNAUTHENTICATED, "", errors.ModelFailed),
]


def test_every_status_of_grpc_has_one_row_for_any_text() -> None:
    """Fails when gRPC grows a status that the table does not have."""
    general = [code for code, part, _ in OUTCOMES if not part]
    assert len(general) == len(set(general))
    assert set(general) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_every_row_can_be_reached() -> None:
    seen: set[tuple[Any, str]] = set()
    for code, part, _ in OUTCOMES:
        assert not any(code is earlier and text in part for earlier, text in seen)
        seen.add((code, part))


@pytest.mark.parametrize(("code", "details", "error"), CASES)
def test_a_status_means_this_error(
    code: grpc.StatusCode, details: str, error: type[errors.GatewayError]
) -> None:
    found = error_of(code, details, LATEST)
    assert type(found) is error
    assert found.log_detail == f"{code.name}: {details}"


@pytest.mark.parametrize(("code", "details", "error"), CASES)
def test_the_servers_own_words_go_to_the_log_only(
    code: grpc.StatusCode, details: str, error: type[errors.GatewayError]
) -> None:
    found = error_of(code, f"{details} 10.1.2.3:8500 <script>", LATEST)
    assert "10.1.2.3" not in found.message
    assert "script" not in found.message
    assert "10.1.2.3" in found.log_detail


@pytest.mark.parametrize(
    ("spec", "named", "words"),
    [
        (LATEST, False, "does not have the model 'clothing-model'"),
        (ModelSpec("m", version=7), True, "version 7 of the model 'm'"),
        (ModelSpec("m", label="stable"), True, "labeled 'stable' of the model 'm'"),
    ],
)
def test_what_is_not_found_is_named(spec: ModelSpec, named: bool, words: str) -> None:
    found = error_of(CODE.NOT_FOUND, "", spec)
    assert isinstance(found, errors.ModelNotFound)
    assert found.version_named is named
    assert words in found.message


def test_a_full_queue_and_a_missing_server_say_when_to_try_again() -> None:
    full = error_of(CODE.UNAVAILABLE, "The batch scheduling queue", LATEST)
    missing = error_of(CODE.UNAVAILABLE, "", LATEST)
    assert full.retry_after
    assert missing.retry_after
