"""Predict's answers: tensors to JSON, in the form in which the request gave its own."""

from collections.abc import Mapping
from typing import Final

from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DataType

from model.server import json_values as values
from model.server import json_writer as writer
from model.server.errors import invalid
from model.server.json_tensors import Form

BYTES_SUFFIX: Final = "_bytes"
"""Outputs of strings whose names end so are written as base64."""


def predict_body(outputs: Mapping[str, TensorProto], form: Form) -> bytes:
    """The body that answers a Predict.

    Raises:
        ServingError: an output has no form in JSON, or rows do not fit together.
    """
    if not outputs:
        invalid("Cannot convert empty tensor map to JSON")
    ordered = {name: outputs[name] for name in sorted(outputs)}
    written = _rows(ordered) if form is Form.ROW else _columns(ordered)
    return writer.finished(writer.json_object({form.value: written}, 0))


def _columns(outputs: Mapping[str, TensorProto]) -> str:
    level = 1 if len(outputs) == 1 else 2
    members = {}
    for name, proto in outputs.items():
        shape = _shape(proto)
        leaves = _written(name, proto, level + len(shape))
        members[name] = writer.nested(leaves, shape, level, one_line=False)
    return next(iter(members.values())) if len(members) == 1 else writer.json_object(members, 1)


def _rows(outputs: Mapping[str, TensorProto]) -> str:
    count = _row_count(outputs)
    level = 2 if len(outputs) == 1 else 3
    columns = {name: _written_rows(name, proto, count, level) for name, proto in outputs.items()}
    if len(columns) == 1:
        return writer.rows(next(iter(columns.values())), 1)
    objects = [
        writer.json_object({name: column[index] for name, column in columns.items()}, 2)
        for index in range(count)
    ]
    return writer.array_in_lines(objects, 1)


def _row_count(outputs: Mapping[str, TensorProto]) -> int:
    count: int | None = None
    for name, proto in outputs.items():
        shape = _shape(proto)
        if not shape:
            invalid(f"Tensor name: {name} has no shape information ")
        if count is not None and count != shape[0]:
            invalid(
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} expecting: {count}"
            )
        count = shape[0]
    return count or 0


def _written_rows(name: str, proto: TensorProto, count: int, level: int) -> list[str]:
    shape = _shape(proto)[1:]
    leaves = _written(name, proto, level + len(shape))
    size = len(leaves) // count if count else 0
    return [
        writer.nested(leaves[row * size : (row + 1) * size], shape, level, one_line=True)
        for row in range(count)
    ]


def _written(name: str, proto: TensorProto, level: int) -> list[str]:
    as_base64 = proto.dtype == DataType.DT_STRING and name.endswith(BYTES_SUFFIX)
    return values.written_leaves(proto, level, as_base64=as_base64)


def _shape(proto: TensorProto) -> tuple[int, ...]:
    return tuple(dimension.size for dimension in proto.tensor_shape.dim)
