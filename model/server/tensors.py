"""TensorProto and numpy arrays, by the rules of TensorFlow's C++ `Tensor`.

`tf.make_ndarray` and `tf.make_tensor_proto` differ from them: they reject surplus values and
choose themselves between repeated fields and bytes.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from model.server.errors import unimplemented

FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.uint32: "uint32_val",
    tf.int64: "int64_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
}
"""The repeated field that carries each dtype."""

BY_NUMBER = {dtype.as_datatype_enum: dtype for dtype in FIELDS}
"""The dtypes by their number in a TensorProto."""

BIT_PATTERNS = {tf.float16, tf.bfloat16}
"""Dtypes whose values travel as the integers of their 16 bits."""

PARTS = {tf.complex64: np.float32, tf.complex128: np.float64}
"""Dtypes whose values travel as a real and an imaginary part."""


def from_proto(proto: Any) -> np.ndarray:
    """The array of a TensorProto; strings become an object array of bytes.

    Bytes in `tensor_content` must fit the shape exactly. Of values in a repeated field, surplus
    ones are dropped and the last one fills up what is missing.

    Raises:
        ValueError: shape, dtype or bytes do not make a tensor.
    """
    dtype = _dtype_of(proto)
    shape = _shape_of(proto)
    count = math.prod(shape)
    if count and proto.tensor_content:
        flat = _from_content(proto.tensor_content, dtype, count)
    elif count:
        flat = _filled(_from_field(proto, dtype, count), count)
    else:
        flat = np.empty(0, dtype.as_numpy_dtype)
    return flat.reshape(shape)


def to_proto(value: Any, *, as_content: bool = False) -> Any:
    """The TensorProto of what a run gave, in its repeated field unless `as_content`.

    Raises:
        ServingError: UNIMPLEMENTED, values of this type have no place in a TensorProto here.
    """
    array = _as_array(value)
    dtype = tf.as_dtype(array.dtype)
    if dtype not in FIELDS:
        unimplemented(f"Outputs of type {dtype.name} cannot be answered by this server")
    proto = tf.make_tensor_proto(0, dtype=tf.int32)
    proto.Clear()
    proto.dtype = dtype.as_datatype_enum
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_content:
        proto.tensor_content = _content_of(array, dtype)
    else:
        getattr(proto, FIELDS[dtype]).extend(_values_of(array, dtype))
    return proto


def _dtype_of(proto: Any) -> Any:
    if proto.dtype not in BY_NUMBER:
        raise ValueError(f"no tensor of data type {proto.dtype} can be fed")
    return BY_NUMBER[proto.dtype]


def _shape_of(proto: Any) -> tuple[int, ...]:
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError("the shape is not fully known")
    return shape


def _from_content(content: bytes, dtype: Any, count: int) -> np.ndarray:
    if dtype == tf.string:
        return _strings(_split_strings(content, count))
    numpy_dtype = np.dtype(dtype.as_numpy_dtype)
    if len(content) != count * numpy_dtype.itemsize:
        raise ValueError(f"{len(content)} bytes do not hold {count} values of {dtype.name}")
    return np.frombuffer(content, numpy_dtype)


def _from_field(proto: Any, dtype: Any, count: int) -> np.ndarray:
    values = getattr(proto, FIELDS[dtype])
    if dtype == tf.string:
        return _strings(values[:count])
    if dtype in BIT_PATTERNS:
        return np.array(values[:count], np.uint16).view(dtype.as_numpy_dtype)
    if dtype in PARTS:
        return np.array(values[: 2 * count], PARTS[dtype]).view(dtype.as_numpy_dtype)
    wide = np.int64 if FIELDS[dtype] == "int_val" else dtype.as_numpy_dtype
    return np.array(values[:count], wide).astype(dtype.as_numpy_dtype, copy=False)


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) == count:
        return values
    filler = values[-1] if len(values) else _zero(values.dtype)
    filled = np.full(count, filler, values.dtype)
    filled[: len(values)] = values
    return filled


def _zero(dtype: np.dtype) -> Any:
    return b"" if dtype.kind == "O" else np.zeros((), dtype)


def _strings(values: Any) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = list(values)
    return array


def _as_array(value: Any) -> np.ndarray:
    """A run gives a scalar string as bytes, which numpy alone would cut at its zeros."""
    if isinstance(value, bytes):
        return _strings([value]).reshape(())
    return np.asarray(value)


def _values_of(array: np.ndarray, dtype: Any) -> Any:
    flat = np.ascontiguousarray(array).reshape(-1)
    if dtype in BIT_PATTERNS:
        flat = flat.view(np.uint16)
    elif dtype in PARTS:
        flat = flat.view(PARTS[dtype])
    return flat.tolist()


def _content_of(array: np.ndarray, dtype: Any) -> bytes:
    if dtype != tf.string:
        return np.ascontiguousarray(array).tobytes()
    values = array.reshape(-1).tolist()
    return b"".join(_varint(len(value)) for value in values) + b"".join(values)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Strings in `tensor_content` are all lengths as varints, then all bytes."""
    lengths, position = [], 0
    for _ in range(count):
        length, position = _read_varint(content, position)
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise ValueError("the lengths of the strings do not add up to the bytes")
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(content) and shift < 35:
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError("a string's length is cut off")
