"""A TensorFlow Serving of fixed answers on a real gRPC server, without TensorFlow.

In a test: `with StubServing(versions={1: StubModel()}) as stub: …`. As a process:
`python -m tests.support.stub_serving --port 0` prints its address once it listens.
"""

import argparse
import math
import signal
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from gateway.model_client.protos import serving_pb2, tensor_pb2
from gateway.model_client.tensors import serialize_tensor

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"
CLOTHES = (
    "dress hat longsleeve outwear pants shirt shoes shorts skirt t-shirt".split()  # noqa: SIM905
)


def image_contract(labels: Sequence[str], *, size: int = 299, scaling: str = "tf") -> str:
    """The JSON of a contract for square pictures."""
    names = ", ".join(f'"{label}"' for label in labels)
    return (
        f'{{"format": 1, "labels": [{names}], "scores": "logits", "preprocessing": '
        f'{{"height": {size}, "width": {size}, "resampling": "nearest", "color_mode": "rgb", '
        f'"scaling": "{scaling}"}}}}'
    )


@dataclass(frozen=True)
class StubModel:
    """One version: what goes in, what comes out, and its contract's JSON, none when empty."""

    scores: tuple[float, ...] = tuple(index / 8 - 0.5 for index in range(len(CLOTHES)))
    contract: str = image_contract(CLOTHES)
    input_name: str = "input_8"
    input_shape: tuple[int, ...] = (-1, 299, 299, 3)
    input_type: int = tensor_pb2.DT_FLOAT
    output_name: str = "dense_7"
    state: str = "AVAILABLE"

    def predict(self, inputs: Mapping[str, tensor_pb2.Tensor]) -> dict[str, np.ndarray]:
        """The same scores for each picture."""
        count = inputs[self.input_name].tensor_shape.dim[0].size
        return {self.output_name: np.tile(np.array(self.scores, np.float32), (count, 1))}

    def signatures(self) -> serving_pb2.SignatureDefMap:
        """serving_default and, with a contract, the signature that gives it."""
        outputs = {self.output_name: _info(tensor_pb2.DT_FLOAT, (-1, len(self.scores)))}
        inputs = {self.input_name: _info(self.input_type, self.input_shape)}
        signatures = {"serving_default": _signature(inputs, outputs)}
        if self.contract:
            text = _info(tensor_pb2.DT_STRING, (-1,))
            signatures["contract"] = _signature({"request": text}, {"contract": text})
        return serving_pb2.SignatureDefMap(signature_def=signatures)


def _info(data_type: int, shape: Sequence[int]) -> tensor_pb2.TensorInfo:
    sizes = [tensor_pb2.TensorShape.Dim(size=size) for size in shape]
    return tensor_pb2.TensorInfo(
        dtype=data_type,  # type: ignore[arg-type]
        tensor_shape=tensor_pb2.TensorShape(dim=sizes),
    )


def _signature(
    inputs: Mapping[str, tensor_pb2.TensorInfo], outputs: Mapping[str, tensor_pb2.TensorInfo]
) -> tensor_pb2.SignatureDef:
    return tensor_pb2.SignatureDef(
        inputs=inputs, outputs=outputs, method_name="tensorflow/serving/predict"
    )


@dataclass
class Failure:
    """A status to answer so many times, or for as long as it is set when times is None."""

    code: grpc.StatusCode
    details: str = ""
    times: float = math.inf
    methods: frozenset[str] = frozenset({PREDICT, METADATA, STATUS})


@dataclass
class StubServing:
    """A server of one model.

    `calls` counts what arrived by method, `deadlines` has the seconds that each call had left,
    `peers` the other ends of the connections, `requests` the last calls' bytes, and `ended_early`
    counts the calls that their caller cancelled or gave up.
    """

    versions: dict[int, StubModel] = field(default_factory=lambda: {1: StubModel()})
    labels: dict[str, int] = field(default_factory=dict)
    model: str = "clothing-model"
    host: str = "127.0.0.1"
    port: int = 0
    threads: int = 16
    delay: float = 0.0
    failure: Failure | None = None
    options: Sequence[tuple[str, Any]] = ()
    calls: Counter[str] = field(default_factory=Counter)
    deadlines: list[float] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    ended_early: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._server: Any = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host, self.port

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; once stopped, it can be started again at the same port."""
        options = {
            "grpc.max_receive_message_length": -1,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,
            **dict(self.options),
        }
        self._server = grpc.server(
            futures.ThreadPoolExecutor(self.threads), options=list(options.items())
        )
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.port = self._server.add_insecure_port(f"{host}:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Cut every call off and close the port."""
        self._server.stop(None).wait()

    def answer(self, method: str, request: bytes, context: Any) -> bytes:
        """Count, wait, fail or answer, in this order."""
        with self._lock:
            self.calls[method] += 1
            self.deadlines.append(context.time_remaining())
            self.peers.add(context.peer())
            self.requests = [*self.requests[-7:], request]
            failure = self._take_failure(method)
        self._wait(context)
        if failure:
            context.abort(failure.code, failure.details)
        answers = {PREDICT: self._predict, METADATA: self._metadata, STATUS: self._status}
        return answers[method](request, context)

    def _take_failure(self, method: str) -> Failure | None:
        failure = self.failure
        if failure is None or method not in failure.methods or failure.times < 1:
            return None
        failure.times -= 1
        return failure

    def _wait(self, context: Any) -> None:
        if not self.delay:
            return
        ended = threading.Event()
        if not context.add_callback(ended.set) or ended.wait(self.delay):
            with self._lock:
                self.ended_early += 1

    def _predict(self, request: bytes, context: Any) -> bytes:
        message = serving_pb2.PredictRequest.FromString(request)
        version = self._version(message.model_spec, context)
        signature = message.model_spec.signature_name or "serving_default"
        model = self.versions[version]
        if signature == "contract" and model.contract:
            count = message.inputs["request"].tensor_shape.dim[0].size
            outputs = {"contract": np.array([model.contract] * count, object)}
        elif signature == "serving_default":
            outputs = model.predict(message.inputs)
        else:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{signature}" not found.',
            )
        response = serving_pb2.PredictResponse(
            outputs={name: _tensor(array) for name, array in outputs.items()},
            model_spec=_effective(message.model_spec.name, version, signature),
        )
        return response.SerializeToString()

    def _metadata(self, request: bytes, context: Any) -> bytes:
        message = serving_pb2.GetModelMetadataRequest.FromString(request)
        version = self._version(message.model_spec, context)
        response = serving_pb2.GetModelMetadataResponse(
            model_spec=_effective(message.model_spec.name, version)
        )
        packed = response.metadata["signature_def"]
        packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed.value = self.versions[version].signatures().SerializeToString()
        return response.SerializeToString()

    def _status(self, request: bytes, context: Any) -> bytes:
        message = serving_pb2.GetModelStatusRequest.FromString(request)
        name = message.model_spec.name
        if name != self.model or not self.versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        states = serving_pb2.ModelVersionStatus.State
        response = serving_pb2.GetModelStatusResponse()
        for version, model in sorted(self.versions.items(), reverse=True):
            response.model_version_status.add(version=version, state=states.Value(model.state))
        return response.SerializeToString()

    def _version(self, spec: serving_pb2.ModelSpec, context: Any) -> int:
        loaded = [v for v, model in self.versions.items() if model.state == "AVAILABLE"]
        wanted = f"Latest({spec.name})"
        version = max(loaded, default=0)
        if spec.HasField("version"):
            wanted = f"Specific({spec.name}, {spec.version.value})"
            version = spec.version.value
        elif spec.version_label:
            if spec.version_label not in self.labels:
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {spec.version_label}",
                )
            version = self.labels[spec.version_label]
        if spec.name != self.model or version not in loaded:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return version


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Messages come and go as bytes, under TensorFlow Serving's own method paths."""

    def __init__(self, stub: StubServing) -> None:
        self._stub = stub

    def service(self, call_details: Any) -> Any:
        method = call_details.method
        if method not in (PREDICT, METADATA, STATUS):
            return None

        def handle(request: bytes, context: Any) -> bytes:
            return self._stub.answer(method, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)


def _tensor(array: np.ndarray) -> tensor_pb2.Tensor:
    """With floats as float_val, as TensorFlow Serving answers by default."""
    if array.dtype != np.float32:
        return tensor_pb2.Tensor.FromString(b"".join(serialize_tensor(array)))
    sizes = [tensor_pb2.TensorShape.Dim(size=size) for size in array.shape]
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DT_FLOAT,
        tensor_shape=tensor_pb2.TensorShape(dim=sizes),
        float_val=[array.tobytes()],
    )


def _effective(name: str, version: int, signature: str = "") -> serving_pb2.ModelSpec:
    spec = serving_pb2.ModelSpec(name=name, signature_name=signature)
    spec.version.value = version
    return spec


def SlowServing(seconds: float, **options: Any) -> StubServing:  # noqa: N802 - a fake by its fault
    """Answers, but late."""
    return StubServing(delay=seconds, **options)


def RefusingServing(  # noqa: N802 - a fake by its fault
    code: grpc.StatusCode, details: str = "", times: float = math.inf, **options: Any
) -> StubServing:
    """Answers every call, or the first so many, with a status that is not OK."""
    return StubServing(failure=Failure(code, details, times), **options)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="clothing-model")
    parser.add_argument("--version", type=int, action="append", help="again for more versions")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--threads", type=int, default=16)
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    versions = {version: StubModel() for version in arguments.version or [1]}
    with StubServing(
        versions,
        model=arguments.model,
        host=arguments.host,
        port=arguments.port,
        threads=arguments.threads,
        delay=arguments.delay,
    ) as stub:
        print(f"listening on {arguments.host}:{stub.port}", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
