"""The client of TensorFlow Serving: predictions, metadata and status under one deadline."""

from collections.abc import Callable, Mapping, Sequence

import grpc
import numpy as np

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import ModelNotFound, ModelRejectedInput
from gateway.model_client import messages
from gateway.model_client.addresses import Address, Addresses, look_up, target_uri
from gateway.model_client.channel import (
    MAX_REQUEST_BYTES,
    METADATA,
    PREDICT,
    STATUS,
    Connection,
    Question,
)
from gateway.model_client.failures import VersionMoved
from gateway.model_client.guards import Circuit, Guards
from gateway.model_client.messages import (
    Metadata,
    ModelSpec,
    Prediction,
    Signature,
    TensorSpec,
    VersionStatus,
)
from gateway.model_client.retries import Retries
from gateway.model_client.servers import Servers, ask_each, common_error, find_owner
from gateway.model_client.tls import ClientTls

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
    """Speaks to TensorFlow Serving; one in each worker, used by all its threads.

    A call is balanced over the servers behind the target. Where one of them lacks the version that
    the call names, the others are asked for it, so that a version that only some have is found.

    Args:
        target: where TensorFlow Serving answers: a host and a port, the host a name with any number
            of addresses; or several IP addresses of one family, each with a port.
        max_retries: further tries of a call while no server can be reached.
        guards: bound these tries, and end predictions at once while nothing answers; shared with
            the other workers.
        tls: what encrypts connections; nothing does where there is none.
        on_retry: hears the model's name before each further try.
        lookup: asks the resolver for the addresses of a name.
    """

    def __init__(
        self,
        target: Address | Sequence[Address],
        *,
        max_retries: int = 2,
        guards: Guards | None = None,
        tls: ClientTls | None = None,
        on_retry: Callable[[str], None] = _ignore,
        lookup: Callable[[Address], tuple[Address, ...]] = look_up,
    ) -> None:
        targets = _addresses(target)
        self._tls = tls
        self._balanced = Connection(target_uri(targets), tls)
        self._addresses = Addresses(targets, lookup)
        self._servers = Servers(tls)
        self._guards = guards or Guards()
        self._retries = Retries(max_retries, self._guards.budget, on_retry)

    def predict(
        self,
        spec: ModelSpec,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        deadline: Deadline,
        output_names: Sequence[str] = (),
        *,
        cancelled: Cancellation | None = None,
    ) -> Prediction:
        """Run one signature.

        Args:
            spec: the model, and which version of it.
            signature: the signature's name.
            inputs: arrays of the signature's dtypes by input name.
            deadline: also the server's: TensorFlow Serving stops a run when its time is up.
            output_names: what to answer; everything when empty.
            cancelled: set once nobody waits for the answer any more.

        Raises:
            ModelNotFound: no server has the model or the version.
            ModelUnavailable: no server could be reached, or not every one and none of the others
                has what is named; or the model's circuit is open, and none was called.
            ModelOverloaded: the server's queue is full.
            ModelRejectedInput: the server calls the request wrong.
            ModelFailed: any other failure, or an answer that makes no sense.
            DeadlineExceeded: the time is up.
            CallerGone: cancelled was set.
        """
        request = messages.predict_request(spec, signature, inputs, output_names)
        if len(request) > MAX_REQUEST_BYTES:
            raise ModelRejectedInput(
                f"The request for {spec} has {len(request)} bytes; {MAX_REQUEST_BYTES} are allowed."
            )
        question = Question(PREDICT, request, spec, deadline, cancelled or Cancellation())
        with self.circuit(spec.name).guard(deadline) as decides:
            answer = self._ask(question) if decides else self._retries.run(self._ask, question)
        return messages.read_prediction(answer)

    def circuit(self, model: str) -> Circuit:
        """What ends the model's predictions before they are made while nothing answers them."""
        return self._guards.circuit(model)

    def metadata(self, spec: ModelSpec, deadline: Deadline) -> Metadata:
        """The signatures of one version; raises as `predict` does."""
        question = Question(METADATA, messages.metadata_request(spec), spec, deadline)
        return messages.read_metadata(self._retries.run(self._ask, question))

    def status(self, model: str, deadline: Deadline) -> tuple[VersionStatus, ...]:
        """The state of each version, newest first; the best of its states where servers differ.

        Servers that cannot be reached are left out. Where one answers here by its own address and
        the last balanced call met none, balanced calls begin anew; so do all calls once the files
        of TLS have changed. A circuit that is open lets the
        next prediction decide.

        Raises:
            ModelNotFound: no server has the model.
            ModelUnavailable: no server could be reached.
            ModelFailed: any other failure.
            DeadlineExceeded: the time is up.
        """
        if self._tls is not None and self._tls.refresh():
            self._balanced.renew()
            self._servers.renew()
        question = Question(STATUS, messages.status_request(model), ModelSpec(model), deadline)
        reports = []
        failures = []
        with self._servers.hold(self._addresses.resolve(deadline)) as connections:
            for address, call in ask_each(connections, question):
                if call.code() is grpc.StatusCode.OK:
                    reports.append(messages.read_status(call.result()))
                else:
                    failures.append((address, call))
        if not reports:
            raise common_error(failures, question, self._addresses.is_spare)
        if self._balanced.failing:
            self._balanced.renew()
        self.circuit(model).try_soon()
        return messages.merge_status(reports)

    def close(self) -> None:
        """End every call and connection; calls that are still made raise ModelUnavailable."""
        self._balanced.close()
        self._servers.close()

    def _ask(self, question: Question) -> bytes:
        try:
            return self._balanced.ask(question)
        except ModelNotFound:
            if self._addresses.alone():
                raise
            return self._ask_owner(question)

    def _ask_owner(self, question: Question) -> bytes:
        addresses = self._addresses.resolve(question.deadline)
        with self._servers.hold(addresses) as connections:
            owner, metadata = find_owner(connections, question, self._addresses.is_spare)
            if question.path == METADATA:
                return metadata
            try:
                return owner.ask(question)
            except ModelNotFound as error:
                raise VersionMoved(
                    f"TensorFlow Serving is exchanging {question.spec}.", retry_after=1
                ) from error


def _addresses(target: Address | Sequence[Address]) -> Sequence[Address]:
    match target:
        case (str(host), int(port)):
            return ((host, port),)
        case _:
            return [(host, port) for host, port in target]
