"""TensorProto is read and written as TensorFlow's C++ does; its runtime is the oracle."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.server import tensors
from model.server.errors import ServingError

DTYPES = sorted(tensors.FIELDS, key=lambda dtype: str(dtype.name))
VALUES: dict[Any, list[Any]] = {
    tf.string: [b"", b"a\0b\0", b"\xff" * 300],
    tf.bool: [True, False, True],
    tf.complex64: [1 + 2j, -0.5j, 3],
    tf.complex128: [1 + 2j, -0.5j, 3],
}


def array_of(dtype: Any) -> np.ndarray:
    values = VALUES.get(dtype, [1, 2, 3])
    array = np.empty(3, dtype.as_numpy_dtype)
    array[:] = values
    return array


def from_runtime(proto: Any) -> Any:
    """The tensor that TensorFlow's C++ makes of a TensorProto: a constant's value."""
    with tf.Graph().as_default() as graph:
        node = graph.as_graph_def().node.add(name="value", op="Const")
        node.attr["dtype"].type = proto.dtype
        node.attr["value"].tensor.CopyFrom(proto)
        definition = tf.compat.v1.GraphDef(node=[node])
        tf.graph_util.import_graph_def(definition, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run("value:0")


def assert_same(ours: np.ndarray, expected: Any) -> None:
    expected = np.asarray(expected, ours.dtype)
    assert ours.shape == expected.shape
    assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype.name))
@pytest.mark.parametrize("as_content", [False, True])
def test_what_is_written_is_read_by_the_runtime_and_by_us(dtype: Any, as_content: bool) -> None:
    array = array_of(dtype).reshape(1, 3)
    proto = tensors.to_proto(array, as_content=as_content)
    assert bool(proto.tensor_content) is as_content
    assert proto.dtype == dtype.as_datatype_enum
    assert_same(tensors.from_proto(proto), array)
    assert_same(array, from_runtime(proto))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype.name))
def test_what_tensorflow_writes_is_read(dtype: Any) -> None:
    array = array_of(dtype)
    assert_same(tensors.from_proto(tf.make_tensor_proto(array, dtype=dtype)), array)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype.name))
@pytest.mark.parametrize("size", [1, 2, 5])
def test_missing_values_repeat_the_last_and_surplus_ones_are_dropped(dtype: Any, size: int) -> None:
    proto = tensors.to_proto(array_of(dtype))
    proto.tensor_shape.dim[0].size = size
    assert_same(tensors.from_proto(proto), from_runtime(proto))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype.name))
def test_no_values_at_all_are_zeros(dtype: Any) -> None:
    proto = tensors.to_proto(array_of(dtype)[:0])
    proto.tensor_shape.dim[0].size = 2
    assert_same(tensors.from_proto(proto), from_runtime(proto))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_strings_in_one_run_of_bytes_are_read(values: list[bytes]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    proto = tensors.to_proto(array, as_content=True)
    assert tensors.from_proto(proto).tolist() == values


def test_a_scalar_string_keeps_its_zeros() -> None:
    assert tensors.from_proto(tensors.to_proto(b"a\0")).tolist() == b"a\0"


def test_outputs_that_have_no_place_in_a_tensor_proto_are_named() -> None:
    quantized = np.zeros(1, tf.qint8.as_numpy_dtype)
    with pytest.raises(ServingError, match="UNIMPLEMENTED: Outputs of type qint8 "):
        tensors.to_proto(quantized)


def without_rank() -> Any:
    proto = tf.make_tensor_proto([1.0])
    proto.tensor_shape.unknown_rank = True
    return proto


def changed(**fields: Any) -> Any:
    proto = tensors.to_proto(np.zeros(2, np.float32), as_content=True)
    for name, value in fields.items():
        setattr(proto, name, value)
    return proto


def negative() -> Any:
    proto = tf.make_tensor_proto([1.0])
    proto.tensor_shape.dim[0].size = -1
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        changed(tensor_content=b"\0" * 7),
        changed(tensor_content=b"\0" * 9),
        changed(dtype=0),
        changed(dtype=20),
        changed(dtype=999),
        changed(dtype=7, tensor_content=b"\x05\x01ab"),
        changed(dtype=7, tensor_content=b"\x80\x80\x80\x80\x80\x80"),
        without_rank(),
        negative(),
    ],
    ids=lambda proto: str(proto).replace("\n", " ")[:40],
)
def test_what_makes_no_tensor_is_refused(proto: Any) -> None:
    with pytest.raises(ValueError, match=r"shape|data type|bytes|length"):
        tensors.from_proto(proto)
