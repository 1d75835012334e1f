"""What is asked of TensorFlow Serving and what it answers, and how both look on the wire."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError, Message

from gateway.errors import ModelFailed, ModelNotFound
from gateway.model_client import tensors
from gateway.model_client.protos import serving_pb2, tensor_pb2
from gateway.model_client.varints import encode_varint

SIGNATURES = "tensorflow.serving.SignatureDefMap"
"""The name that the type URL of metadata's Any ends in."""

_STATES = ("AVAILABLE", "LOADING", "START", "UNLOADING", "END", "UNKNOWN")
"""From the best for callers to the worst."""


@dataclass(frozen=True)
class ModelSpec:
    """A model: its newest version, or the one that a number or a label names."""

    name: str
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"version {self.version} of the model {self.name!r}"
        if self.label is not None:
            return f"the version labeled {self.label!r} of the model {self.name!r}"
        return f"the model {self.name!r}"

    @property
    def names_version(self) -> bool:
        """Whether a version or a label is named."""
        return self.version is not None or self.label is not None


@dataclass(frozen=True)
class TensorSpec:
    """A signature's tensor.

    dtype is that of the arrays that `predict` takes or gives: object for strings,
    `tensors.BFLOAT16` for inputs of that type, void for types that are not supported. In shape, -1
    is an unknown size; None is an unknown rank.
    """

    dtype: np.dtype
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """One way to call a model."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str


@dataclass(frozen=True)
class Metadata:
    """The signatures of the version that answered."""

    version: int
    signatures: Mapping[str, Signature]


@dataclass(frozen=True)
class VersionStatus:
    """How far a version is: START, LOADING, AVAILABLE, UNLOADING, END or UNKNOWN."""

    version: int
    state: str
    error_code: int
    error_message: str


@dataclass(frozen=True)
class Prediction:
    """The outputs of the version that computed them; the arrays are not to be written to."""

    version: int
    outputs: Mapping[str, np.ndarray]


def predict_request(
    spec: ModelSpec, signature: str, inputs: Mapping[str, np.ndarray], output_names: Sequence[str]
) -> bytes:
    """A PredictRequest. Each tensor's memory is copied once, past the Protocol Buffers runtime.

    Raises:
        ModelNotFound: the version is no 64-bit number, or a name no Unicode text.
        TypeError: an array cannot be sent, as `tensors.serialize_tensor` says.
    """
    head = serving_pb2.PredictRequest(
        model_spec=_model_spec(spec, signature), output_filter=output_names
    )
    parts: list[bytes | memoryview] = [head.SerializeToString()]
    for name, array in inputs.items():
        parts += _map_entry(name.encode(), *tensors.serialize_tensor(array))
    return b"".join(parts)


def _map_entry(
    name: bytes, head: bytes, values: bytes | memoryview
) -> tuple[bytes, bytes | memoryview]:
    """One entry of PredictRequest.inputs: field 2, of a key in field 1 and a value in field 2."""
    key = b"\x0a" + encode_varint(len(name)) + name
    key += b"\x12" + encode_varint(len(head) + len(values)) + head
    return b"\x12" + encode_varint(len(key) + len(values)) + key, values


def metadata_request(spec: ModelSpec) -> bytes:
    """A GetModelMetadataRequest for the signatures."""
    request = serving_pb2.GetModelMetadataRequest(
        model_spec=_model_spec(spec), metadata_field=["signature_def"]
    )
    return request.SerializeToString()


def status_request(model: str) -> bytes:
    """A GetModelStatusRequest for every version."""
    spec = _model_spec(ModelSpec(model))
    return serving_pb2.GetModelStatusRequest(model_spec=spec).SerializeToString()


def _model_spec(spec: ModelSpec, signature: str = "") -> serving_pb2.ModelSpec:
    try:
        message = serving_pb2.ModelSpec(name=spec.name, signature_name=signature)
        if spec.version is not None:
            message.version.value = spec.version
        elif spec.label is not None:
            message.version_label = spec.label
    except ValueError as error:
        raise ModelNotFound(
            f"No server can have {spec}.", version_named=spec.names_version
        ) from error
    return message


def read_prediction(answer: bytes) -> Prediction:
    """A PredictResponse.

    Raises:
        ModelFailed: it is malformed, or larger as arrays than `tensors.MAX_DECODED_BYTES`.
    """
    response = serving_pb2.PredictResponse()
    _parse(response, answer)
    outputs = dict(_arrays(response.outputs))
    return Prediction(_version(response.model_spec), outputs)


def _arrays(outputs: Mapping[str, tensor_pb2.Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    room = tensors.MAX_DECODED_BYTES
    for name, tensor in outputs.items():
        try:
            array = tensors.parse_tensor(tensor, room)
        except tensors.MalformedTensor as error:
            raise ModelFailed(f"The model's output {name!r} {error}.") from error
        room -= array.nbytes
        yield name, array


def read_metadata(answer: bytes) -> Metadata:
    """A GetModelMetadataResponse.

    Raises:
        ModelFailed: it is malformed or holds no signatures.
    """
    response = serving_pb2.GetModelMetadataResponse()
    _parse(response, answer)
    packed = response.metadata["signature_def"]
    if packed.type_url.rpartition("/")[2] != SIGNATURES:
        raise ModelFailed("TensorFlow Serving's metadata holds no signatures.")
    signatures = serving_pb2.SignatureDefMap()
    _parse(signatures, packed.value)
    return Metadata(
        _version(response.model_spec),
        {name: _signature(message) for name, message in signatures.signature_def.items()},
    )


def _signature(message: tensor_pb2.SignatureDef) -> Signature:
    return Signature(
        {
            name: TensorSpec(tensors.input_dtype(info.dtype), _shape(info.tensor_shape))
            for name, info in message.inputs.items()
        },
        {
            name: TensorSpec(tensors.output_dtype(info.dtype), _shape(info.tensor_shape))
            for name, info in message.outputs.items()
        },
        message.method_name,
    )


def _shape(shape: tensor_pb2.TensorShape) -> tuple[int, ...] | None:
    return None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)


def read_status(answer: bytes) -> tuple[VersionStatus, ...]:
    """A GetModelStatusResponse.

    Raises:
        ModelFailed: it is malformed.
    """
    response = serving_pb2.GetModelStatusResponse()
    _parse(response, answer)
    return tuple(_version_status(message) for message in response.model_version_status)


def _version_status(message: serving_pb2.ModelVersionStatus) -> VersionStatus:
    states = serving_pb2.ModelVersionStatus.State
    known = message.state in states.values()
    return VersionStatus(
        message.version,
        states.Name(message.state) if known else "UNKNOWN",
        message.status.error_code,
        message.status.error_message.decode(errors="replace"),
    )


def merge_status(reports: Sequence[Sequence[VersionStatus]]) -> tuple[VersionStatus, ...]:
    """Several servers' reports as one: each version in its best state, newest first."""
    best: dict[int, VersionStatus] = {}
    for status in itertools.chain.from_iterable(reports):
        known = best.get(status.version)
        if known is None or _STATES.index(status.state) < _STATES.index(known.state):
            best[status.version] = status
    return tuple(best[version] for version in sorted(best, reverse=True))


def _version(spec: serving_pb2.ModelSpec) -> int:
    if not spec.HasField("version"):
        raise ModelFailed("TensorFlow Serving's answer does not say which version computed it.")
    return spec.version.value


def _parse(message: Message, octets: bytes) -> None:
    try:
        message.ParseFromString(octets)
    except DecodeError as error:
        raise ModelFailed(
            "TensorFlow Serving's answer cannot be read.", log_detail=str(error)
        ) from error
