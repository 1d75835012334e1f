"""TensorFlow itself is the oracle of what a tensor on the wire means."""

import math
import struct
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tensorflow.core.framework import tensor_pb2 as official

from gateway.model_client import tensors
from gateway.model_client.protos import tensor_pb2
from gateway.model_client.tensors import MalformedTensor, parse_tensor, serialize_tensor
from gateway.model_client.varints import decode_varints, encode_varint

VALUE_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "int64": "int64_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "string": "string_val",
}
"""TensorFlow's types and the fields of tensorflow/core/framework/tensor.proto that hold them."""

NUMPY_TYPES = [name for name in VALUE_FIELDS if name not in ("bfloat16", "string")]
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
QUICK = settings(max_examples=40, deadline=None)


def arrays(name: str) -> st.SearchStrategy[np.ndarray]:
    if name == "string":
        return npst.arrays(object, SHAPES, elements=st.binary(max_size=300), fill=st.nothing())
    if name == "bfloat16":
        return npst.arrays(np.uint16, SHAPES).map(lambda bits: bits.view(ml_dtypes.bfloat16))
    return npst.arrays(np.dtype(name), SHAPES)


def values_of(array: np.ndarray) -> list[object]:
    """The array's elements as its field of TensorProto takes them."""
    if array.dtype in (np.float16, ml_dtypes.bfloat16):
        return list(array.reshape(-1).view(np.uint16).tolist())
    if array.dtype.kind == "c":
        return [part for value in array.ravel().tolist() for part in (value.real, value.imag)]
    return list(array.ravel().tolist())


def in_value_fields(array: np.ndarray, kept: int | None = None) -> official.TensorProto:
    """The array as TensorFlow Serving answers it, only its first `kept` elements if told so."""
    dtype = tf.as_dtype(np.dtype(object) if array.dtype == object else array.dtype)
    proto = official.TensorProto(
        dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto()
    )
    shown = array.ravel()[:kept]
    getattr(proto, VALUE_FIELDS[dtype.name]).extend(values_of(shown))
    return proto


def ours(proto: official.TensorProto) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor.FromString(proto.SerializeToString())


def check_equal(read: np.ndarray, expected: np.ndarray) -> None:
    if expected.dtype == ml_dtypes.bfloat16:
        expected = expected.astype(np.float32)
    assert read.dtype == expected.dtype
    assert read.shape == expected.shape
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("name", VALUE_FIELDS)
def test_values_in_their_fields_are_read_as_tensorflow_reads_them(name: str) -> None:
    @QUICK
    @given(array=arrays(name), data=st.data())
    def holds(array: np.ndarray, data: st.DataObject) -> None:
        kept = data.draw(st.integers(0, array.size))
        proto = in_value_fields(array, kept)
        expected = tf.make_ndarray(proto)
        if name == "string":
            expected[expected == ""] = b""
        check_equal(parse_tensor(ours(proto)), expected)

    holds()


@pytest.mark.parametrize("name", [name for name in VALUE_FIELDS if name != "string"])
def test_tensor_content_is_read_as_tensorflow_writes_it(name: str) -> None:
    @QUICK
    @given(array=arrays(name))
    def holds(array: np.ndarray) -> None:
        read = parse_tensor(ours(tf.make_tensor_proto(array)))
        check_equal(read, array)
        if name != "bfloat16" and array.size > 1:
            assert read.tobytes() == array.tobytes()

    holds()


@pytest.mark.parametrize("name", VALUE_FIELDS)
def test_what_is_sent_is_read_by_tensorflow_bit_for_bit(name: str) -> None:
    @QUICK
    @given(array=arrays(name), turned=st.booleans())
    def holds(array: np.ndarray, turned: bool) -> None:
        array = array.T if turned else array
        octets = b"".join(serialize_tensor(array))
        dtype = tf.string if name == "string" else tf.as_dtype(array.dtype)
        in_python = tf.make_ndarray(official.TensorProto.FromString(octets))
        in_runtime = tf.io.parse_tensor(octets, dtype).numpy()
        for read in (in_python, np.asarray(in_runtime, array.dtype)):
            assert read.shape == array.shape
            if name == "string":
                assert read.tolist() == array.tolist()
            else:
                assert read.tobytes() == array.tobytes()
        check_equal(parse_tensor(tensor_pb2.Tensor.FromString(octets)), array)

    holds()


@QUICK
@given(array=npst.arrays(np.float32, SHAPES, elements=st.floats(width=32)))
def test_numbers_are_rounded_to_bfloat16_as_tensorflow_rounds_them(array: np.ndarray) -> None:
    expected = tf.cast(tf.constant(array), tf.bfloat16).numpy()
    octets = b"".join(serialize_tensor(tensors.to_bfloat16(array)))
    read = parse_tensor(tensor_pb2.Tensor.FromString(octets))
    check_equal(read, np.asarray(expected, ml_dtypes.bfloat16).reshape(array.shape))
    assert official.TensorProto.FromString(octets).dtype == tf.bfloat16.as_datatype_enum


@pytest.mark.parametrize(
    "array", [np.array(["a", "ä"]), np.array([b"a", b"bc"]), np.array(["a", b"\xff"], object)]
)
def test_text_is_sent_as_utf_8_and_bytes_as_they_are(array: np.ndarray) -> None:
    proto = official.TensorProto.FromString(b"".join(serialize_tensor(array)))
    expected = [text if isinstance(text, bytes) else text.encode() for text in array.tolist()]
    assert list(proto.string_val) == expected


def test_big_endian_numbers_are_turned() -> None:
    array = np.array([1.5, -2.0], ">f4")
    proto = official.TensorProto.FromString(b"".join(serialize_tensor(array)))
    assert tf.make_ndarray(proto).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    "array", [np.array([object()]), np.array([1, "a"], object), np.array(["2026-01-01"], "M8[D]")]
)
def test_what_tensorflow_has_no_type_for_is_not_sent(array: np.ndarray) -> None:
    with pytest.raises(TypeError):
        serialize_tensor(array)


def string_content(strings: list[bytes]) -> bytes:
    """Strings in tensor_content, as EncodeStringList in tensorflow/core/platform writes them."""
    return b"".join([*(encode_varint(len(text)) for text in strings), *strings])


@QUICK
@given(strings=st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_strings_in_tensor_content_are_read_as_the_runtime_reads_them(
    strings: list[bytes],
) -> None:
    proto = official.TensorProto(
        dtype=tf.string.as_datatype_enum,
        tensor_shape=tf.TensorShape([len(strings)]).as_proto(),
        tensor_content=string_content(strings),
    )
    expected = tf.io.parse_tensor(proto.SerializeToString(), tf.string).numpy()
    assert parse_tensor(ours(proto)).tolist() == expected.tolist() == strings


@QUICK
@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 300), max_size=40))
def test_packed_numbers_are_read_as_protocol_buffers_writes_them(numbers: list[int]) -> None:
    proto = official.TensorProto(int64_val=numbers)
    run = b"".join(ours(proto).int64_val)
    assert decode_varints(run).view(np.int64).tolist() == numbers


@given(number=st.integers(0, 2**64 - 1))
def test_a_written_number_reads_back(number: int) -> None:
    assert decode_varints(encode_varint(number)).tolist() == [number]


def test_values_in_several_runs_are_joined() -> None:
    runs = [struct.pack("<2f", 1, 2), struct.pack("<f", 3), b""]
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DT_FLOAT, float_val=runs)
    tensor.tensor_shape.dim.add(size=3)
    official_proto = official.TensorProto.FromString(tensor.SerializeToString())
    assert parse_tensor(tensor).tolist() == tf.make_ndarray(official_proto).tolist() == [1, 2, 3]


def tensor(data_type: int, *sizes: int, **fields: object) -> tensor_pb2.Tensor:
    message = tensor_pb2.Tensor(dtype=data_type, **fields)  # type: ignore[arg-type]
    for size in sizes:
        message.tensor_shape.dim.add(size=size)
    return message


def with_unknown_rank() -> tensor_pb2.Tensor:
    message = tensor(tensor_pb2.DT_FLOAT)
    message.tensor_shape.unknown_rank = True
    return message


def not_packed() -> tensor_pb2.Tensor:
    """One float_val under the wire type of a single 32-bit number."""
    octets = tensor(tensor_pb2.DT_FLOAT, 1).SerializeToString() + b"\x2d" + struct.pack("<f", 1)
    return tensor_pb2.Tensor.FromString(octets)


NONSENSE: dict[str, Callable[[], tensor_pb2.Tensor]] = {
    "no type": lambda: tensor(0, 1),
    "a resource": lambda: tensor(20, 1),
    "a type from the future": lambda: tensor(12345, 1),
    "an unknown size": lambda: tensor(tensor_pb2.DT_FLOAT, -1, float_val=[b"\0\0\0\0"]),
    "an unknown rank": with_unknown_rank,
    "more dimensions than numpy has": lambda: tensor(tensor_pb2.DT_FLOAT, *[1] * 65),
    "sizes that overflow beside a zero": lambda: tensor(
        tensor_pb2.DT_FLOAT, 0, 2**62, 2**62, 2**62
    ),
    "content too short": lambda: tensor(tensor_pb2.DT_FLOAT, 2, tensor_content=b"\0" * 4),
    "content too long": lambda: tensor(tensor_pb2.DT_FLOAT, 1, tensor_content=b"\0" * 8),
    "content of half a number": lambda: tensor(tensor_pb2.DT_FLOAT, 1, tensor_content=b"\0" * 5),
    "content for no place": lambda: tensor(tensor_pb2.DT_FLOAT, 0, tensor_content=b"\0" * 4),
    "too many values": lambda: tensor(tensor_pb2.DT_FLOAT, 1, float_val=[b"\0" * 8]),
    "half a value": lambda: tensor(tensor_pb2.DT_FLOAT, 2, float_val=[b"\0" * 6]),
    "half a complex value": lambda: tensor(tensor_pb2.DT_COMPLEX64, 1, scomplex_val=[b"\0" * 4]),
    "a cut number": lambda: tensor(tensor_pb2.DT_INT32, 1, int_val=[b"\x80"]),
    "a cut number after a whole one": lambda: tensor(tensor_pb2.DT_INT32, 2, int_val=[b"\1\x80"]),
    "a number of eleven bytes": lambda: tensor(
        tensor_pb2.DT_INT64, 1, int64_val=[b"\x80" * 10 + b"\0"]
    ),
    "300 as uint8": lambda: tensor(tensor_pb2.DT_UINT8, 1, int_val=[b"\xac\2"]),
    "-1 as uint8": lambda: tensor(tensor_pb2.DT_UINT8, 1, int_val=[b"\xff" * 9 + b"\1"]),
    "70000 as half": lambda: tensor(tensor_pb2.DT_HALF, 1, half_val=[encode_varint(70_000)]),
    "values that are not packed": not_packed,
    "too few strings in content": lambda: tensor(
        tensor_pb2.DT_STRING, 2, tensor_content=string_content([b"a"])
    ),
    "a string longer than the content": lambda: tensor(
        tensor_pb2.DT_STRING, 1, tensor_content=b"\x05ab"
    ),
    "bytes after the last string": lambda: tensor(
        tensor_pb2.DT_STRING, 1, tensor_content=b"\x01ab"
    ),
    "strings for no place": lambda: tensor(tensor_pb2.DT_STRING, 0, tensor_content=b"\x01a"),
    "a petabyte of one value": lambda: tensor(
        tensor_pb2.DT_FLOAT, 2**25, 2**25, float_val=[b"\0\0\x80\x3f"]
    ),
    "a petabyte of nothing": lambda: tensor(tensor_pb2.DT_FLOAT, 2**25, 2**25),
    "a petabyte of one string": lambda: tensor(
        tensor_pb2.DT_STRING, 2**25, 2**25, string_val=[b"a"]
    ),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_tensor_that_contradicts_itself_is_refused(name: str) -> None:
    message = NONSENSE[name]()
    with pytest.raises(MalformedTensor):
        parse_tensor(message)


def test_repeating_one_value_takes_no_memory() -> None:
    side = math.isqrt(tensors.MAX_DECODED_BYTES // 4)
    message = tensor(tensor_pb2.DT_FLOAT, side, side, float_val=[struct.pack("<f", 2.5)])
    array = parse_tensor(message)
    assert array.shape == (side, side)
    assert array[-1, -1] == 2.5
    assert array.strides == (0, 0)


def test_room_for_one_element_less_is_not_enough() -> None:
    message = tensor(tensor_pb2.DT_BFLOAT16, 3, half_val=[b"\1"])
    assert parse_tensor(message, room=12).size == 3
    with pytest.raises(MalformedTensor):
        parse_tensor(message, room=11)


@settings(max_examples=300, deadline=None)
@given(
    data_type=st.sampled_from([*tensor_pb2.DataType.values(), 20]),
    runs=st.lists(st.binary(max_size=30), max_size=3),
    data=st.data(),
)
def test_any_bytes_are_a_tensor_or_refused(
    data_type: int, runs: list[bytes], data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(["tensor_content", *sorted(set(VALUE_FIELDS.values()))]))
    value = b"".join(runs) if field == "tensor_content" else runs
    message = tensor(data_type, 2, 3, **{field: value})
    try:
        read = parse_tensor(message)
    except MalformedTensor:
        return
    assert read.shape == (2, 3)
