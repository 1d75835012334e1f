"""The client of TensorFlow Serving: predictions, metadata and status under one deadline."""

import threading
from collections.abc import Callable, Mapping, Sequence

import grpc
import numpy as np

from gateway.deadline import Deadline
from gateway.errors import ModelRejectedInput
from gateway.model_client import messages, retries
from gateway.model_client.channel import (
    MAX_REQUEST_BYTES,
    METADATA,
    PREDICT,
    STATUS,
    Address,
    Connection,
    target_uri,
    wait,
)
from gateway.model_client.messages import (
    Metadata,
    ModelSpec,
    Prediction,
    Signature,
    TensorSpec,
    VersionStatus,
)
from gateway.model_client.statuses import error_of, outcome_of

__all__ = [
    "Metadata",
    "ModelClient",
    "ModelSpec",
    "Prediction",
    "Signature",
    "TensorSpec",
    "VersionStatus",
]


def _ignore(_model: str) -> None:
    pass


class ModelClient:
    """Speaks to TensorFlow Serving; made in each worker after the fork, used by all its threads.

    Args:
        target: where it answers, as a host and a port. A name may have many addresses.
        max_retries: further tries of a call when no server can be reached.
        on_retry: hears the model's name before each further try.
    """

    def __init__(
        self,
        target: Address,
        *,
        max_retries: int = 2,
        on_retry: Callable[[str], None] = _ignore,
    ) -> None:
        self._connection = Connection(target_uri([target]))
        self._max_retries = max_retries
        self._on_retry = on_retry
        self._budget = retries.RetryBudget()

    def predict(
        self,
        spec: ModelSpec,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        deadline: Deadline,
        output_names: Sequence[str] = (),
        *,
        cancelled: threading.Event | None = None,
    ) -> Prediction:
        """Run one signature; all its outputs unless some are named."""
        request = messages.predict_request(spec, signature, inputs, output_names)
        if len(request) > MAX_REQUEST_BYTES:
            raise ModelRejectedInput(
                f"The request for {spec} is larger than {MAX_REQUEST_BYTES} bytes."
            )
        return messages.read_prediction(self._call(PREDICT, request, spec, deadline, cancelled))

    def metadata(self, spec: ModelSpec, deadline: Deadline) -> Metadata:
        """The signatures of one version."""
        request = messages.metadata_request(spec)
        return messages.read_metadata(self._call(METADATA, request, spec, deadline))

    def status(self, model: str, deadline: Deadline) -> tuple[VersionStatus, ...]:
        """The state of each version."""
        request = messages.status_request(model)
        return messages.read_status(self._call(STATUS, request, ModelSpec(model), deadline))

    def close(self) -> None:
        """End every call and connection."""
        self._connection.close()

    def _call(
        self,
        path: str,
        request: bytes,
        spec: ModelSpec,
        deadline: Deadline,
        cancelled: threading.Event | None = None,
    ) -> bytes:
        for tries in range(1, self._max_retries + 2):
            call = self._connection.start(path, request, deadline.check("prediction"))
            try:
                answer = wait(call, cancelled)
            except grpc.RpcError as error:
                outcome = outcome_of(error.code(), error.details() or "")
                failure = error_of(outcome, spec, error.code(), error.details() or "")
                last = tries > self._max_retries or not outcome.retried
                if last or not self._budget.spend():
                    raise failure from error
            else:
                self._budget.earn()
                return answer
            self._on_retry(spec.name)
            (cancelled or threading.Event()).wait(min(retries.pause(tries), deadline.remaining()))
        raise AssertionError("unreachable")
