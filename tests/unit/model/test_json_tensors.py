"""Predict's bodies: every dtype against numpy, every rule against the reference's texts."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from model.server import json_values
from model.server.errors import ServingError
from model.server.json_predictions import predict_body
from model.server.json_tensors import Form, fill_predict_request
from tests.support.serving_reference import row

NUMBERS: dict[str, npt.DTypeLike] = {
    "rest.dtype-float": np.float32,
    "rest.dtype-double": np.float64,
    "rest.dtype-int8": np.int8,
    "rest.dtype-int16": np.int16,
    "rest.dtype-int32": np.int32,
    "rest.dtype-uint8": np.uint8,
    "rest.dtype-uint32": np.uint32,
    "rest.dtype-int64": np.int64,
    "rest.dtype-uint64": np.uint64,
    "rest.dtype-bool": np.bool_,
}
SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)
FLOAT = DataType.DT_FLOAT
STRING = DataType.DT_STRING
INT32 = DataType.DT_INT32


def infos(**dtypes: int) -> dict[str, TensorInfo]:
    return {name: TensorInfo(dtype=dtype) for name, dtype in dtypes.items()}


def request_of(body: object, inputs: Mapping[str, TensorInfo]) -> tuple[PredictRequest, Form]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = PredictRequest()
    form = fill_predict_request(data, lambda _: inputs, request)
    return request, form


def tensors_of(body: object, inputs: Mapping[str, TensorInfo]) -> dict[str, npt.NDArray[Any]]:
    request, _ = request_of(body, inputs)
    return {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}


def refused(body: object, inputs: Mapping[str, TensorInfo]) -> tuple[str, str]:
    with pytest.raises(ServingError) as raised:
        request_of(body, inputs)
    return raised.value.code.name, raised.value.message


def same(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    equal_nan = left.dtype.kind == "f"
    return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=equal_nan)


@pytest.mark.parametrize("row_id", NUMBERS)
@given(data=st.data())
def test_a_dtype_goes_through_json_and_back_in_both_forms(row_id: str, data: st.DataObject) -> None:
    assert row(row_id).rest_code == 200
    array = data.draw(arrays.arrays(np.dtype(NUMBERS[row_id]), SHAPES))
    inputs = infos(x=tf.as_dtype(array.dtype).as_datatype_enum)
    for key, form in (("instances", Form.ROW), ("inputs", Form.COLUMN)):
        request, found = request_of({key: array.tolist()}, inputs)
        assert found is form
        assert same(tf.make_ndarray(request.inputs["x"]), array)
        answer = json.loads(predict_body({"y": tf.make_tensor_proto(array)}, form))
        assert same(np.array(answer[form.value], dtype=array.dtype), array)


@given(arrays.arrays(np.object_, SHAPES, elements=st.binary(max_size=8)), st.booleans())
def test_bytes_go_through_base64_and_back(array: npt.NDArray[Any], named: bool) -> None:
    assert row("rest.dtype-string").rest_code == 200
    assert row("rest.bytes-in")
    assert row("rest.bytes-out")

    def encode(value: object) -> object:
        if isinstance(value, list):
            return [encode(item) for item in value]
        assert isinstance(value, bytes)
        return {"b64": base64.b64encode(value).decode()}

    rows: list[object] = [encode(element) for element in array.tolist()]
    body = {"instances": [{"x": element} for element in rows] if named else rows}
    back = tensors_of(body, infos(x=STRING))["x"]
    assert back.tolist() == array.tolist()
    proto = tf.make_tensor_proto(array.tolist(), tf.string, array.shape)
    for form in Form:
        answer = json.loads(predict_body({"y_bytes": proto}, form))
        assert answer[form.value] == rows


@given(st.lists(st.text(), min_size=1))
def test_text_is_its_utf_8_bytes(texts: list[str]) -> None:
    array = tensors_of({"instances": texts}, infos(x=STRING))["x"]
    assert array.tolist() == [text.encode() for text in texts]
    body = predict_body({"y": tf.make_tensor_proto(array.tolist(), tf.string)}, Form.ROW)
    assert json.loads(body)["predictions"] == texts


def test_floats_that_are_not_finite_go_in_and_out() -> None:
    assert row("rest.not-a-number")
    array = tensors_of(b'{"instances": [NaN, Infinity, -Infinity, 1]}', infos(x=FLOAT))["x"]
    assert repr(array.tolist()) == "[nan, inf, -inf, 1.0]"
    body = predict_body({"y": tf.make_tensor_proto(array)}, Form.ROW)
    assert body == b'{\n    "predictions": [NaN, Infinity, -Infinity, 1.0\n    ]\n}'


def test_small_integers_wrap_and_large_doubles_overflow_to_infinity() -> None:
    int8 = tensors_of({"inputs": [300, -129]}, infos(x=DataType.DT_INT8))["x"]
    assert int8.tolist() == [44, 127]
    floats = tensors_of({"inputs": [1e300, 10**200]}, infos(x=FLOAT))["x"]
    assert np.isinf(floats).all()


def test_rows_of_one_input_are_values_and_of_one_output_bare() -> None:
    assert row("rest.row-values").rest_code == 200
    assert tensors_of({"instances": [[1, 2], [3, 4]]}, infos(x=INT32))["x"].shape == (2, 2)
    body = predict_body({"y": tf.make_tensor_proto([[1.0, 2.5], [3.0, 4.0]])}, Form.ROW)
    assert body == b'{\n    "predictions": [[1.0, 2.5], [3.0, 4.0]\n    ]\n}'


def test_rows_of_several_inputs_and_outputs_are_objects() -> None:
    assert row("rest.row-objects").rest_code == 200
    body = {"instances": [{"a": 1, "b": ["u"]}, {"a": 2, "b": ["v"]}]}
    tensors = tensors_of(body, infos(a=INT32, b=STRING))
    assert tensors["a"].tolist() == [1, 2]
    assert tensors["b"].tolist() == [[b"u"], [b"v"]]
    answer = predict_body(
        {"p": tf.make_tensor_proto([[1], [2]]), "q": tf.make_tensor_proto([b"u", b"v"])}, Form.ROW
    )
    assert answer.decode() == (
        '{\n    "predictions": [\n'
        '        {\n            "p": [1],\n            "q": "u"\n        },\n'
        '        {\n            "p": [2],\n            "q": "v"\n        }\n'
        "    ]\n}"
    )


def test_columns_of_one_input_are_a_value_a_list_or_base64() -> None:
    assert row("rest.column-value").rest_code == 200
    assert tensors_of({"inputs": 3}, infos(x=INT32))["x"].shape == ()
    assert tensors_of({"inputs": [[3]]}, infos(x=INT32))["x"].shape == (1, 1)
    assert tensors_of({"inputs": {"b64": "YQ=="}}, infos(x=STRING))["x"] == b"a"
    body = predict_body({"y": tf.make_tensor_proto([1, 2])}, Form.COLUMN)
    assert body == b'{\n    "outputs": [\n        1,\n        2\n    ]\n}'
    assert predict_body({"y": tf.make_tensor_proto(7)}, Form.COLUMN) == b'{\n    "outputs": 7\n}'


def test_columns_of_several_inputs_and_outputs_are_an_object() -> None:
    assert row("rest.column-object").rest_code == 200
    tensors = tensors_of({"inputs": {"a": [1], "b": "u"}}, infos(a=INT32, b=STRING))
    assert tensors["a"].tolist() == [1]
    assert tensors["b"] == b"u"
    answer = predict_body(
        {"p": tf.make_tensor_proto([True]), "q_bytes": tf.make_tensor_proto(b"a")}, Form.COLUMN
    )
    assert answer.decode() == (
        '{\n    "outputs": {\n        "p": [\n            true\n        ],\n'
        '        "q_bytes": {\n            "b64": "YQ=="\n        }\n    }\n}'
    )


def test_the_signature_is_optional_and_must_be_a_string() -> None:
    assert row("rest.signature-name-optional").rest_code == 200
    asked: list[str] = []

    def inputs_of(name: str) -> Mapping[str, TensorInfo]:
        asked.append(name)
        return infos(x=FLOAT)

    for body in (b'{"inputs": 1}', b'{"inputs": 1, "signature_name": "other"}'):
        fill_predict_request(body, inputs_of, PredictRequest())
    assert asked == ["", "other"]
    code, message = refused({"signature_name": 1, "inputs": 1}, infos(x=FLOAT))
    assert code == "INVALID_ARGUMENT"
    assert message.endswith(
        " not formatted correctly. 'signature_name' key must be a string value."
    )


def test_a_dtype_that_json_has_no_form_for_is_unimplemented() -> None:
    half = infos(x=DataType.DT_HALF)
    code, message = refused({"inputs": [1.5]}, half)
    assert code == "UNIMPLEMENTED"
    assert message == "Conversion of JSON Value: 1.5 to type: half"
    assert row("rest.dtype-other").grpc_code == code
    row("rest.dtype-other").check_text(message)
    _, message = refused({"instances": [1.5]}, half)
    assert message == (
        "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
        "Conversion of JSON Value: 1.5 to type: half"
    )


X, AB = infos(x=FLOAT), infos(a=INT32, b=INT32)
TEXTS: list[tuple[str, object, Mapping[str, TensorInfo], dict[str, object], str | None]] = [
    ("rest.parse-empty", b"", X, {}, None),
    ("rest.parse-invalid-value", b'{"instances": [x]}', X, {"N": 15}, None),
    ("rest.not-an-object", [1], X, {}, "JSON Value: [1] Is not object"),
    ("rest.missing-inputs-or-instances", {}, X, {}, None),
    (
        "rest.both-inputs-and-instances",
        {"inputs": 1, "instances": [1]},
        X,
        {},
        'JSON Value: {\n    "inputs": 1,\n    "instances": [1]\n} Not formatted correctly '
        "expecting only one of 'inputs' or 'instances' keys to exist ",
    ),
    (
        "rest.instances-not-a-list",
        {"instances": 1},
        X,
        {},
        "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array",
    ),
    (
        "rest.instances-empty",
        {"instances": []},
        X,
        {},
        "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
    ),
    (
        "rest.element-error",
        {"instances": ["a"]},
        X,
        {},
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "a" Type: String is not of expected type: float',
    ),
    (
        "rest.element-key-error",
        {"instances": [{"a": 1.5, "b": 1}]},
        AB,
        {"K": "a"},
        "Failed to process element: 0 key: a of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON Value: 1.5 Type: Number is not of expected type: int32",
    ),
    (
        "rest.element-keys",
        {"instances": [{"a": 1}]},
        AB,
        {},
        "Failed to process element: 0 of 'instances' list. JSON object: {\n"
        '    "a": 1\n} keys must be equal to: a,b',
    ),
    (
        "rest.object-unknown-input",
        {"instances": [{"c": 1}]},
        AB,
        {"K": "c"},
        "Failed to process element: 0 key: c of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON object: does not have named input: c",
    ),
    ("rest.column-missing-input", {"inputs": {"b": 1}}, AB, {"K": "a"}, None),
    ("rest.plain-list-for-several", {"instances": [1]}, AB, {}, None),
    ("rest.list-size", {"inputs": [[1, 2, 3], [1, 2]]}, X, {}, None),
    (
        "rest.list-level",
        {"inputs": [1, [2]]},
        X,
        {"L": 1, "R": 1},
        "Encountered list at unexpected level: 1 expected < 1",
    ),
    (
        "rest.tensor-size",
        {"instances": [[1, 2, 3], [1, 2]]},
        X,
        {},
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
        "Expecting tensor size: 3 but got: 2",
    ),
    (
        "rest.tensor-shape",
        {"instances": [[[1, 2], [3, 4]], [1, 2, 3, 4]]},
        X,
        {},
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
        "Expecting shape [2,2] but got: [4]",
    ),
    ("rest.base64", {"inputs": {"b64": "?"}}, infos(x=STRING), {}, "Unable to base64 decode"),
]


@pytest.mark.parametrize(("row_id", "body", "inputs", "names", "whole"), TEXTS)
def test_a_body_that_breaks_a_rule_gets_the_references_text(
    row_id: str,
    body: object,
    inputs: Mapping[str, TensorInfo],
    names: dict[str, object],
    whole: str | None,
) -> None:
    code, message = refused(body, inputs)
    assert code == row(row_id).grpc_code
    row(row_id).check_rest(400, message, **names)
    assert message == (whole or message)


@pytest.mark.parametrize(
    ("body", "inputs", "text"),
    [
        (
            {"inputs": [1]},
            AB,
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        (
            {"instances": [{"a": 1, "b": 1}, 1]},
            AB,
            "Expecting object but got list at item 1 of input list",
        ),
        (
            {"instances": [1, {"a": 1}]},
            X,
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            {"inputs": [[1], 2]},
            X,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            {"inputs": [{"b64": 1}]},
            infos(x=STRING),
            'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
        ),
        (
            {"inputs": [{"b64": "YQ=="}]},
            X,
            'JSON Value: {\n    "b64": "YQ=="\n} Type: Object is not of expected type: float',
        ),
        (
            {"inputs": [None]},
            X,
            "JSON Value: null Type: Null is not of expected type: float",
        ),
        (
            {"inputs": [True]},
            infos(x=INT32),
            "JSON Value: true Type: True is not of expected type: int32",
        ),
        (
            {"inputs": [1.0]},
            infos(x=DataType.DT_INT64),
            "JSON Value: 1.0 Type: Number is not of expected type: int64",
        ),
        (
            {"inputs": [-1]},
            infos(x=DataType.DT_UINT64),
            "JSON Value: -1 Type: Number is not of expected type: uint64",
        ),
        (
            {"inputs": [2**31]},
            infos(x=DataType.DT_UINT8),
            "JSON Value: 2147483648 Type: Number is not of expected type: uint8",
        ),
        ({"inputs": 1}, {}, "Failed to get input map for signature: DEFAULT"),
    ],
)
def test_further_rules_have_the_servers_texts(
    body: object, inputs: Mapping[str, TensorInfo], text: str
) -> None:
    assert refused(body, inputs) == ("INVALID_ARGUMENT", text)


def test_the_body_is_read_before_the_signature_is_looked_up() -> None:
    def inputs_of(name: str) -> Mapping[str, TensorInfo]:
        raise AssertionError(f"{name} was looked up")

    with pytest.raises(ServingError, match="Invalid value"):
        fill_predict_request(b"x", inputs_of, PredictRequest())


def test_a_name_that_repeats_is_counted_twice_in_rows() -> None:
    request, _ = request_of(b'{"instances": [{"x": 1, "x": 2}]}', X)
    proto = request.inputs["x"]
    assert len(proto.tensor_content) == 8
    assert [dimension.size for dimension in proto.tensor_shape.dim] == [1]


def test_a_list_of_great_depth_is_a_tensor_of_that_rank() -> None:
    request, _ = request_of(b'{"inputs": ' + b"[" * 3000 + b"]" * 3000 + b"}", X)
    assert len(request.inputs["x"].tensor_shape.dim) == 3000


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("YWI=", b"ab"),
        ("YWI", b"ab"),
        ("Y W\nI=", b"ab"),
        ("YQ..", b"a"),
        ("YR==", b"a"),
        ("YQ=", None),
        ("Y", None),
        ("YQ==YQ==", None),
        ("-_8=", None),
    ],
)
def test_base64_is_read_as_abseil_reads_it(text: str, data: bytes | None) -> None:
    body = {"inputs": {"b64": text}}
    if data is None:
        assert refused(body, infos(x=STRING))[1] == "Unable to base64 decode"
    else:
        assert tensors_of(body, infos(x=STRING))["x"] == data


def test_outputs_without_a_form_in_json_are_refused() -> None:
    def refused_answer(outputs: Mapping[str, TensorProto], form: Form) -> str:
        with pytest.raises(ServingError) as raised:
            predict_body(outputs, form)
        assert raised.value.code.name == "INVALID_ARGUMENT"
        return raised.value.message

    scalar, one, two = (tf.make_tensor_proto(value) for value in (1.0, [1.0], [1.0, 2.0]))
    row("rest.output-no-shape").check_rest(400, refused_answer({"t": scalar}, Form.ROW), T="t")
    row("rest.output-batch-size").check_rest(
        400, refused_answer({"a": one, "b": two}, Form.ROW), T="b", **{"2": 2, "1": 1}
    )
    assert refused_answer({}, Form.ROW) == "Cannot convert empty tensor map to JSON"
    half = tf.make_tensor_proto(np.array([1], np.float16))
    assert refused_answer({"h": half}, Form.ROW) == (
        "Failed to write JSON value for tensor type: half"
    )


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=2),
    st.just({"b64": "YQ=="}),
    st.just({"b64": "?"}),
)
LIKELY = st.one_of(st.integers(-3, 3), st.just(1.5))
VALUES = st.recursive(st.one_of(LIKELY, LEAVES), lambda inner: st.lists(inner, max_size=3))
NAMED = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
BODIES = st.one_of(
    st.fixed_dictionaries({"inputs": st.one_of(VALUES, NAMED)}),
    st.fixed_dictionaries(
        {"instances": st.lists(st.one_of(VALUES, NAMED), min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries({"instances": st.lists(st.lists(LIKELY, min_size=2, max_size=2))}),
)
SIGNATURES = st.dictionaries(
    st.sampled_from("ab"),
    st.sampled_from([FLOAT, INT32, STRING, DataType.DT_UINT64, DataType.DT_BOOL, DataType.DT_HALF]),
    min_size=1,
)


def outcome(body: object, inputs: Mapping[str, TensorInfo]) -> tuple[str, ...]:
    try:
        request, form = request_of(body, inputs)
    except ServingError as error:
        return error.code.name, error.message
    return form.name, repr(sorted((name, str(proto)) for name, proto in request.inputs.items()))


@given(BODIES, SIGNATURES)
def test_the_quick_way_and_the_walk_agree(body: object, dtypes: dict[str, int]) -> None:
    inputs = infos(**dtypes)
    quick = outcome(body, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "quick_leaves", lambda *_: None)
        assert outcome(body, inputs) == quick


def test_empty_rows_and_columns_are_empty_lists() -> None:
    empty = tf.make_tensor_proto(np.zeros((0, 2), np.float32))
    assert json.loads(predict_body({"y": empty}, Form.ROW)) == {"predictions": []}
    assert json.loads(predict_body({"y": empty}, Form.COLUMN)) == {"outputs": []}
    assert tensors_of({"instances": [[], []]}, X)["x"].shape == (2, 0)
