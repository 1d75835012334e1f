"""One JSON value from and to one tensor, by TensorFlow Serving's rules.

The nesting of lists is the shape. Numbers of a regular list take a quick way through numpy; any
other list is walked value by value, which finds the first thing that is wrong with it.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NoReturn

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.framework.types_pb2 import DataType

from model.server import json_writer as writer
from model.server.errors import invalid, unimplemented
from model.server.json_reader import Members, Value, string_bytes, string_of

BASE64: Final = "b64"

Leaf = bool | int | float | bytes


@dataclass(frozen=True)
class _Kind:
    """What a dtype takes from JSON: the types of Python that `read` makes, and the range."""

    array: type[np.generic]
    types: frozenset[type]
    low: int = 0
    high: int = 0

    def holds(self, number: float) -> bool:
        """Whether an integer is in range; anything else always is."""
        return not self.high or self.low <= number <= self.high


def _floats(array: type[np.generic]) -> _Kind:
    return _Kind(array, frozenset({int, float}))


def _signed(array: type[np.generic], bits: int) -> _Kind:
    return _Kind(array, frozenset({int}), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _unsigned(array: type[np.generic], bits: int) -> _Kind:
    return _Kind(array, frozenset({int}), 0, 2**bits - 1)


_KINDS: Final[Mapping[int, _Kind]] = {
    DataType.DT_FLOAT: _floats(np.float32),
    DataType.DT_DOUBLE: _floats(np.float64),
    DataType.DT_INT32: _signed(np.int32, 32),
    DataType.DT_INT16: _signed(np.int16, 32),
    DataType.DT_INT8: _signed(np.int8, 32),
    DataType.DT_UINT8: _signed(np.uint8, 32),
    DataType.DT_INT64: _signed(np.int64, 64),
    DataType.DT_UINT32: _unsigned(np.uint32, 32),
    DataType.DT_UINT64: _unsigned(np.uint64, 64),
    DataType.DT_BOOL: _Kind(np.bool_, frozenset({bool})),
    DataType.DT_STRING: _Kind(np.bytes_, frozenset({str, Members})),
}
"""Integers of 8 and 16 bits are read as 32 and wrap, as the protocol's `int_val` does."""


def dtype_name(dtype: int) -> str:
    """A dtype as TensorFlow's own texts name it: `float`, `int64`, `string`."""
    return str(DataType.Name(dtype)).removeprefix("DT_").lower()


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape that a value claims: the sizes along its first elements."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def quick_leaves(
    values: Sequence[Value], shape: tuple[int, ...], dtype: int
) -> Sequence[Leaf] | None:
    """The leaves of values that all have this shape and dtype; None when that is not so."""
    level: Sequence[Value] = values
    for size in shape:
        lists = [value for value in level if isinstance(value, list)]
        if len(lists) != len(level) or any(len(items) != size for items in lists):
            return None
        level = list(chain.from_iterable(lists))
    kind = _KINDS.get(dtype)
    if kind is None or not kind.types.issuperset(map(type, level)):
        return None
    if dtype == DataType.DT_STRING:
        return _quick_strings(level)
    numbers = [number for number in level if isinstance(number, int | float)]
    if kind.high and numbers and not (kind.holds(min(numbers)) and kind.holds(max(numbers))):
        return None
    return numbers


def _quick_strings(values: Iterable[Value]) -> list[Leaf] | None:
    strings: list[Leaf] = []
    for value in values:
        data = string_bytes(value) if isinstance(value, str) else _from_base64(value)
        if data is None:
            return None
        strings.append(data)
    return strings


def leaves(value: Value, shape: tuple[int, ...], dtype: int) -> list[Leaf]:
    """The leaves of one value in row-major order.

    Raises:
        ServingError: a list has another size than the first one of its level, a value stands at
            another level, or is not of the dtype.
    """
    found: list[Leaf] = []
    open_lists = [iter([value])]
    while open_lists:
        item = next(open_lists[-1], _END)
        if item is _END:
            open_lists.pop()
            continue
        level = len(open_lists) - 1
        if isinstance(item, list):
            _check_list(item, level, shape)
            open_lists.append(iter(item))
        elif level != len(shape):
            invalid(
                f"JSON Value: {writer.debug_text(item)} found at incorrect level: {level + 1} in "
                f"the JSON DOM. Expected at level: {len(shape)}"
            )
        else:
            found.append(_leaf(item, dtype))
    return found


_END: Final = Members([])


def _check_list(items: list[Value], level: int, shape: tuple[int, ...]) -> None:
    if level >= len(shape):
        invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(items) != shape[level]:
        invalid(
            f"Encountered list at unexpected size: {len(items)} at level: {level} "
            f"expected size: {shape[level]}"
        )


def _leaf(value: Value, dtype: int) -> Leaf:
    kind = _KINDS.get(dtype)
    if isinstance(value, Members):
        return decoded(value) if dtype == DataType.DT_STRING else _wrong_type(value, dtype)
    if kind is None:
        unimplemented(
            f"Conversion of JSON Value: {writer.debug_text(value)} to type: {dtype_name(dtype)}"
        )
    if isinstance(value, str) and str in kind.types:
        return string_bytes(value)
    if isinstance(value, int | float) and type(value) in kind.types and kind.holds(value):
        return value
    return _wrong_type(value, dtype)


def _wrong_type(value: Value, dtype: int) -> NoReturn:
    invalid(
        f"JSON Value: {writer.debug_text(value)} Type: {type_name(value)} "
        f"is not of expected type: {dtype_name(dtype)}"
    )


def type_name(value: Value) -> str:
    """The type of a value as RapidJSON names it."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    if isinstance(value, int | float):
        return "Number"
    if isinstance(value, str):
        return "String"
    return "Array" if isinstance(value, list) else "Object"


def is_base64(value: Value) -> bool:
    """Whether a value is `{"b64": string}` and nothing more."""
    return (
        isinstance(value, Members)
        and [name for name, _ in value.pairs] == [BASE64]
        and isinstance(value.pairs[0][1], str)
    )


def _from_base64(value: Value) -> bytes | None:
    """The bytes of a `{"b64": string}`, or None."""
    if not isinstance(value, Members) or not is_base64(value):
        return None
    text = value.pairs[0][1]
    return base64_decoded(string_bytes(text)) if isinstance(text, str) else None


def decoded(value: Value) -> bytes:
    """The bytes of a `{"b64": string}`.

    Raises:
        ServingError: it is something else, or its string is not base64.
    """
    if not is_base64(value):
        invalid(f"JSON Value: {writer.debug_text(value)} not formatted correctly for base64 data")
    data = _from_base64(value)
    if data is None:
        invalid("Unable to base64 decode")
    return data


_SPACES = b" \t\n\v\f\r"
_BASE64_TEXT = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")


def base64_decoded(text: bytes) -> bytes | None:
    """The bytes that base64 text stands for, or None.

    As Abseil's reader: the standard alphabet, spaces anywhere, padding whole or left out, `.`
    as good as `=`.
    """
    match = _BASE64_TEXT.fullmatch(text.translate(None, _SPACES))
    if match is None:
        return None
    digits, padding = match.groups()
    missing = -len(digits) % 4
    if missing == 3 or len(padding) not in (0, missing):
        return None
    return base64.b64decode(digits + b"=" * missing)


def tensor(values: Sequence[Leaf], shape: Sequence[int], dtype: int) -> TensorProto:
    """A tensor of leaves in row-major order."""
    dimensions = [TensorShapeProto.Dim(size=size) for size in shape]
    proto = TensorProto(dtype=dtype, tensor_shape=TensorShapeProto(dim=dimensions))
    if dtype == DataType.DT_STRING:
        proto.string_val.extend(value for value in values if isinstance(value, bytes))
    elif dtype in _KINDS:
        proto.tensor_content = _numbers(values, _KINDS[dtype]).tobytes()
    return proto


def _numbers(values: Sequence[Leaf], kind: _Kind) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    if not kind.high:
        with np.errstate(over="ignore"):
            wide = np.bool_ if kind.array is np.bool_ else np.float64
            return np.array(values, dtype=wide).astype(kind.array)
    return np.array(values, dtype=np.uint64 if kind.high >= 2**63 else np.int64).astype(kind.array)


def written_leaves(proto: TensorProto, level: int, *, as_base64: bool) -> list[str]:
    """A tensor's values as JSON, in row-major order.

    Args:
        proto: the tensor.
        level: how many arrays and objects the values will stand in.
        as_base64: write strings as `{"b64": ...}`.

    Raises:
        ServingError: JSON has no form for the dtype.
    """
    if proto.dtype not in _KINDS:
        if 0 in (dimension.size for dimension in proto.tensor_shape.dim):
            return []
        invalid(f"Failed to write JSON value for tensor type: {dtype_name(proto.dtype)}")
    array = tf.make_ndarray(proto)
    if proto.dtype in (DataType.DT_FLOAT, DataType.DT_DOUBLE):
        return writer.decimals(array)
    if proto.dtype == DataType.DT_STRING:
        write = _written_base64 if as_base64 else _written_string
        return [write(bytes(value), level) for value in array.ravel()]
    if proto.dtype == DataType.DT_BOOL:
        return ["true" if value else "false" for value in array.ravel()]
    return [str(value) for value in array.ravel().tolist()]


def _written_string(value: bytes, _level: int) -> str:
    return writer.quoted(string_of(value))


def _written_base64(value: bytes, level: int) -> str:
    return writer.json_object({BASE64: f'"{base64.b64encode(value).decode()}"'}, level)
