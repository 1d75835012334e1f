"""Classify's and Regress's bodies and answers."""

import json

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest, ClassificationResult
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResult

from model.server.errors import ServingError
from model.server.json_examples import (
    classification_body,
    fill_examples_request,
    regression_body,
)
from tests.support.serving_reference import row

EVERY_KIND = (
    b'{"signature_name": "s", "examples": [{"i": [1, true], "f": [1.5, NaN], "b": '
    b'["u", {"b64": "YQ=="}], "one": 7, "none": []}, {}]}'
)


def test_examples_have_features_of_every_kind() -> None:
    request = ClassificationRequest()
    fill_examples_request(EVERY_KIND, request)
    assert request.model_spec.signature_name == "s"
    first, second = request.input.example_list.examples
    feature = first.features.feature
    assert list(feature["i"].int64_list.value) == [1, 1]
    assert repr(list(feature["f"].float_list.value)) == "[1.5, nan]"
    assert list(feature["b"].bytes_list.value) == [b"u", b"a"]
    assert list(feature["one"].int64_list.value) == [7]
    assert feature["none"].WhichOneof("kind") is None
    assert not second.features.feature


def test_a_context_is_shared_by_the_examples() -> None:
    request = RegressionRequest()
    fill_examples_request(b'{"context": {"c": 1}, "examples": [{"x": 2.5}]}', request)
    shared = request.input.example_list_with_context
    assert list(shared.context.features.feature["c"].int64_list.value) == [1]
    assert list(shared.examples[0].features.feature["x"].float_list.value) == [2.5]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (
            b"{}",
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (
            b'{"examples": 1}',
            "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
        ),
        (
            b'{"examples": []}',
            "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        ),
        (b'{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        (
            b'{"examples": [{"x": null}]}',
            "Feature: x has element with unexpected JSON type: Null",
        ),
        (
            b'{"examples": [{"x": [[1]]}]}',
            "Feature: x has element with unexpected JSON type: Array",
        ),
        (
            b'{"examples": [{"x": {"y": 1}}]}',
            "Feature: x has element with unexpected JSON type: Object",
        ),
        (
            b'{"examples": [{"x": [1, 2.5]}]}',
            "Unexpected element type in feature: x expecting type: int64",
        ),
        (
            b'{"examples": [{"x": ["a", true]}]}',
            "Unexpected element type in feature: x expecting type: bytes",
        ),
        (
            b'{"examples": [{"x": 18446744073709551615}]}',
            "Feature: x has uint64_t element. Only int64_t is supported.",
        ),
        (b'{"examples": [{"x": {"b64": "?"}}]}', "Unable to base64 decode"),
    ],
)
def test_a_body_that_is_not_made_of_examples_is_refused(body: bytes, text: str) -> None:
    with pytest.raises(ServingError) as raised:
        fill_examples_request(body, ClassificationRequest())
    assert raised.value.code.name == "INVALID_ARGUMENT"
    assert raised.value.message == text


def test_a_number_beyond_64_bits_is_a_float() -> None:
    request = ClassificationRequest()
    fill_examples_request(b'{"examples": [{"x": 100000000000000000000}]}', request)
    feature = request.input.example_list.examples[0].features.feature["x"]
    assert list(feature.float_list.value) == [pytest.approx(1e20)]


def test_classes_and_values_are_answered_under_results() -> None:
    assert row("rest.classify-results")
    assert row("rest.regress-results")
    classes = text_format.Parse(
        "classifications { classes { label: 'a' score: 0.5 } classes { label: 'b' score: 1 } } "
        "classifications { }",
        ClassificationResult(),
    )
    body = classification_body(classes)
    assert body == b'{\n    "results": [[["a", 0.5], ["b", 1.0]], []\n    ]\n}'
    values = text_format.Parse(
        "regressions { value: 0.2 } regressions { value: 3 }", RegressionResult()
    )
    assert regression_body(values) == b'{\n    "results": [0.2, 3.0]\n}'
    assert json.loads(body)["results"][0][1] == ["b", 1.0]


def test_no_results_are_refused() -> None:
    with pytest.raises(ServingError, match="Cannot convert empty ClassificationResults to JSON"):
        classification_body(ClassificationResult())
    with pytest.raises(ServingError, match="Cannot convert empty RegressionResults to JSON"):
        regression_body(RegressionResult())
