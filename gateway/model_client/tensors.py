"""numpy arrays to TensorFlow's tensors on the wire, and back.

TensorFlow Serving answers in `*_val` fields unless it runs with
`--enable_serialization_as_tensor_content`, so both forms are read. Layouts and the rule by which
missing values are filled are those of tensorflow/core/framework/tensor.proto and of
tensorflow.make_ndarray.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet

from gateway.model_client.protos import tensor_pb2
from gateway.model_client.varints import decode_varints, encode_varint

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""What an array to be sent as bfloat16 has: numpy has no such type. See `to_bfloat16`."""

UNSUPPORTED = np.dtype(np.void)
"""Stands for a TensorFlow type that is neither sent nor read here."""

MAX_DECODED_BYTES = 64 * 1024 * 1024
"""What one answer may take as arrays, whatever shapes it claims."""


@dataclass(frozen=True)
class _Layout:
    """How one TensorFlow type lies in memory and in which field its values come."""

    data_type: int
    dtype: np.dtype
    values: str


_LAYOUTS: dict[int, _Layout] = {
    number: _Layout(number, np.dtype(dtype), values)
    for number, dtype, values in (
        (tensor_pb2.DT_FLOAT, "<f4", "float_val"),
        (tensor_pb2.DT_DOUBLE, "<f8", "double_val"),
        (tensor_pb2.DT_HALF, "<f2", "half_val"),
        (tensor_pb2.DT_BFLOAT16, BFLOAT16, "half_val"),
        (tensor_pb2.DT_INT8, "<i1", "int_val"),
        (tensor_pb2.DT_INT16, "<i2", "int_val"),
        (tensor_pb2.DT_INT32, "<i4", "int_val"),
        (tensor_pb2.DT_INT64, "<i8", "int64_val"),
        (tensor_pb2.DT_UINT8, "<u1", "int_val"),
        (tensor_pb2.DT_UINT16, "<u2", "int_val"),
        (tensor_pb2.DT_UINT32, "<u4", "uint32_val"),
        (tensor_pb2.DT_UINT64, "<u8", "uint64_val"),
        (tensor_pb2.DT_BOOL, "?", "bool_val"),
        (tensor_pb2.DT_COMPLEX64, "<c8", "scomplex_val"),
        (tensor_pb2.DT_COMPLEX128, "<c16", "dcomplex_val"),
        (tensor_pb2.DT_STRING, "O", "string_val"),
    )
}
_BY_DTYPE = {layout.dtype: layout for layout in _LAYOUTS.values()}
_STRING = _LAYOUTS[tensor_pb2.DT_STRING]
_VALUE_FIELDS = frozenset(
    field.number for field in tensor_pb2.Tensor.DESCRIPTOR.fields if field.name.endswith("_val")
)


class MalformedTensor(ValueError):
    """A tensor on the wire contradicts itself; the message says how."""


def input_dtype(data_type: int) -> np.dtype:
    """The dtype of arrays to send where a signature wants this TensorFlow type."""
    layout = _LAYOUTS.get(data_type)
    return layout.dtype if layout else UNSUPPORTED


def output_dtype(data_type: int) -> np.dtype:
    """The dtype of arrays that `parse_tensor` makes of this TensorFlow type."""
    dtype = input_dtype(data_type)
    return np.dtype(np.float32) if dtype == BFLOAT16 else dtype


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Floating-point numbers as an array to be sent as bfloat16, rounded to nearest even."""
    bits = np.asarray(array, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    not_a_number = (bits >> 16) | 0x40
    halves = np.where(np.isnan(array), not_a_number, rounded)
    return halves.astype("<u2").view(BFLOAT16)


def serialize_tensor(array: np.ndarray) -> tuple[bytes, bytes | memoryview]:
    """The tensor's message in two parts to be joined: a short head, then the values' memory.

    Strings come as `str` (sent as UTF-8) or `bytes`, in arrays of kind O, S or U.

    Raises:
        TypeError: TensorFlow has no such type, or an object is not a string.
    """
    if array.dtype.kind in "OSU":
        return _head(_STRING, array.shape), b"".join(map(_string_value, array.ravel().tolist()))
    layout = _layout_of(array.dtype)
    octets = np.asarray(array, _stored(array.dtype, layout), order="C").reshape(-1).view(np.uint8)
    content = b"\x22" + encode_varint(octets.size)
    return _head(layout, array.shape) + content, octets.data


def _layout_of(dtype: np.dtype) -> _Layout:
    if dtype.name == "bfloat16":
        return _LAYOUTS[tensor_pb2.DT_BFLOAT16]
    layout = _BY_DTYPE.get(dtype.newbyteorder("<"))
    if layout is None:
        raise TypeError(f"a tensor of {dtype} cannot be sent")
    return layout


def _stored(dtype: np.dtype, layout: _Layout) -> np.dtype:
    return dtype if dtype.name == "bfloat16" else layout.dtype


def _head(layout: _Layout, shape: Sequence[int]) -> bytes:
    sizes = [tensor_pb2.TensorShape.Dim(size=size) for size in shape]
    message = tensor_pb2.Tensor(
        dtype=layout.data_type,  # type: ignore[arg-type]
        tensor_shape=tensor_pb2.TensorShape(dim=sizes),
    )
    return message.SerializeToString()


def _string_value(text: object) -> bytes:
    octets = text.encode() if isinstance(text, str) else text
    if not isinstance(octets, bytes):
        raise TypeError(f"an array of objects holds {type(text).__name__}, not str or bytes")
    return b"\x42" + encode_varint(len(octets)) + octets


def parse_tensor(tensor: tensor_pb2.Tensor, room: int = MAX_DECODED_BYTES) -> np.ndarray:
    """The tensor as an array that may share the message's memory and is not to be written to.

    bfloat16 becomes float32, strings an object array of bytes.

    Args:
        tensor: from a server, not trusted to be sound.
        room: bytes that the array may take; an element of a string tensor counts eight.

    Raises:
        MalformedTensor: the type is not supported, or sizes or values do not fit.
    """
    layout = _LAYOUTS.get(tensor.dtype)
    if layout is None:
        raise MalformedTensor(f"is of TensorFlow's type {tensor.dtype}, which is not supported")
    shape = _shape(tensor.tensor_shape)
    if math.prod(shape) * output_dtype(tensor.dtype).itemsize > room:
        raise MalformedTensor(f"of shape {list(shape)} is larger than the {room} bytes allowed")
    unknown = UnknownFieldSet(tensor)
    if any(unknown[index].field_number in _VALUE_FIELDS for index in range(len(unknown))):
        raise MalformedTensor("holds values that are not packed")
    try:
        values = _filled(_values(tensor, layout, math.prod(shape)), shape)
    except ValueError as error:
        raise MalformedTensor(str(error)) from error
    return _widened(values) if layout.dtype == BFLOAT16 else values


def _shape(shape: tensor_pb2.TensorShape) -> tuple[int, ...]:
    sizes = tuple(dim.size for dim in shape.dim)
    if shape.unknown_rank or any(size < 0 for size in sizes):
        raise MalformedTensor(f"has no definite shape: {list(sizes)}")
    return sizes


def _values(tensor: tensor_pb2.Tensor, layout: _Layout, count: int) -> np.ndarray:
    if tensor.tensor_content:
        return _content(tensor.tensor_content, layout, count)
    runs: Sequence[bytes] = getattr(tensor, layout.values)
    if layout is _STRING:
        return _strings(list(runs))
    if layout.values in ("float_val", "double_val", "scomplex_val", "dcomplex_val"):
        return np.frombuffer(b"".join(runs), layout.dtype)
    return _narrowed(decode_varints(b"".join(runs)), layout)


def _content(content: bytes, layout: _Layout, count: int) -> np.ndarray:
    if layout is _STRING:
        values = _string_list(content, count)
    elif layout.dtype.kind == "b":
        values = np.frombuffer(content, np.uint8) != 0
    else:
        values = np.frombuffer(content, layout.dtype)
    if values.size != count:
        raise ValueError(f"has {values.size} values for {count} places")
    return values


def _string_list(content: bytes, count: int) -> np.ndarray:
    """Strings as TensorFlow writes them into tensor_content: every length, then every string."""
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) < 0x80)
    if ends.size < count:
        raise ValueError(f"has too few strings for {count} places")
    start = int(ends[count - 1]) + 1 if count else 0
    strings = []
    for length in decode_varints(content[:start]).tolist():
        strings.append(content[start : start + length])
        start += length
    if start != len(content):
        raise ValueError("has strings whose lengths do not add up")
    return _strings(strings)


def _strings(strings: list[bytes]) -> np.ndarray:
    values = np.empty(len(strings), object)
    values[:] = strings
    return values


def _narrowed(numbers: np.ndarray, layout: _Layout) -> np.ndarray:
    """64 bits from the wire as the type's own values; int_val is a signed number of 32 bits."""
    if layout.values == "bool_val":
        return numbers.astype(bool)
    if layout.values == "half_val":
        halves: np.ndarray = _fitting(numbers, np.dtype("<u2")).view(layout.dtype)
        return halves
    if layout.values == "int_val":
        return _fitting(numbers.astype("<u4").view("<i4"), layout.dtype)
    return numbers.astype(layout.dtype)


def _fitting(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    values: np.ndarray = numbers.astype(dtype)
    if not np.array_equal(values, numbers):
        raise ValueError(f"holds numbers that are too large for {dtype.name}")
    return values


def _filled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The values in their shape; places at the end without one repeat the last, or are zero."""
    count = math.prod(shape)
    if values.size > count:
        raise ValueError(f"has {values.size} values for {count} places")
    if values.size == count:
        return values.reshape(shape)
    if values.size == 0:
        return np.broadcast_to(_zero(values.dtype), shape)
    if values.size == 1:
        return np.broadcast_to(values.reshape(()), shape)
    filled = np.empty(count, values.dtype)
    filled[: values.size] = values
    filled[values.size :] = values[-1]
    return filled.reshape(shape)


def _zero(dtype: np.dtype) -> np.ndarray:
    zero = np.zeros((), dtype)
    if dtype.kind == "O":
        zero[()] = b""
    return zero


def _widened(halves: np.ndarray) -> np.ndarray:
    return (halves["bfloat16"].astype(np.uint32) << np.uint32(16)).view(np.float32)
