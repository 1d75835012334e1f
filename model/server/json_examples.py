"""Classify's and Regress's bodies: JSON to tf.Examples, results to JSON.

A body holds `examples`, a list of objects from feature names to values, and may hold `context`, an
object of the features that all of them share. Integers and booleans make int64 features, other
numbers float ones, strings and `{"b64": ...}` bytes.
"""

from typing import Final

from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest, ClassificationResult
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResult

from model.server import json_values as values
from model.server import json_writer as writer
from model.server.errors import invalid
from model.server.json_reader import Members, Value, string_bytes
from model.server.json_tensors import read_object, signature_name

EXAMPLES: Final = "examples"
CONTEXT: Final = "context"
RESULTS: Final = "results"

_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def fill_examples_request(body: bytes, request: ClassificationRequest | RegressionRequest) -> None:
    """Put a body's signature and examples into a request.

    Raises:
        ServingError: the body is not made of examples.
    """
    document = read_object(body)
    request.model_spec.signature_name = signature_name(document)
    context = document.has(CONTEXT)
    if context:
        shared = request.input.example_list_with_context.context
        _fill_example(document.first(CONTEXT), shared)
    chosen = request.input.example_list_with_context if context else request.input.example_list
    for value in _examples(document):
        _fill_example(value, chosen.examples.add())


def _examples(document: Members) -> list[Value]:
    shown = f"JSON Value: {writer.debug_text(document)}"
    if not document.has(EXAMPLES):
        invalid(f"{shown} When method is classify, key '{EXAMPLES}' is expected and was not found")
    examples = document.first(EXAMPLES)
    if not isinstance(examples, list):
        invalid(f"{shown} Expecting '{EXAMPLES}' value to be an list/array")
    if not examples:
        invalid(f"{shown} '{EXAMPLES}' value is an empty array")
    return examples


def _fill_example(value: Value, example: Example) -> None:
    if not isinstance(value, Members):
        invalid(f"Example must be JSON object but got JSON {values.type_name(value)}")
    for name, content in value.pairs:
        feature = Feature()
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)
        example.features.feature[name].CopyFrom(feature)


def _add_to_feature(value: Value, name: str, feature: Feature) -> None:
    if isinstance(value, bool):
        _expect_kind("int64_list", name, feature)
        feature.int64_list.value.append(int(value))
    elif isinstance(value, int) and writer.SMALLEST_SIGNED <= value <= writer.LARGEST_UNSIGNED:
        _expect_kind("int64_list", name, feature)
        if value >= 2**63:
            invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        feature.int64_list.value.append(value)
    elif isinstance(value, int | float):
        _expect_kind("float_list", name, feature)
        feature.float_list.value.append(float(value))
    elif isinstance(value, str) or values.is_base64(value):
        _expect_kind("bytes_list", name, feature)
        data = string_bytes(value) if isinstance(value, str) else values.decoded(value)
        feature.bytes_list.value.append(data)
    else:
        kind = values.type_name(value)
        invalid(f"Feature: {name} has element with unexpected JSON type: {kind}")


def _expect_kind(kind: str, name: str, feature: Feature) -> None:
    """One feature holds values of one kind; the text names the kind that it has."""
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        invalid(
            f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[present]}"
        )


def classification_body(result: ClassificationResult) -> bytes:
    """The body that answers a Classify: for each example a list of [label, score].

    Raises:
        ServingError: there is no result.
    """
    if not result.classifications:
        invalid("Cannot convert empty ClassificationResults to JSON")
    results = [
        writer.array_in_one_line(
            [
                writer.array_in_one_line([writer.quoted(item.label), writer.decimal32(item.score)])
                for item in classifications.classes
            ]
        )
        for classifications in result.classifications
    ]
    return writer.finished(writer.json_object({RESULTS: writer.rows(results, 1)}, 0))


def regression_body(result: RegressionResult) -> bytes:
    """The body that answers a Regress: a list of values.

    Raises:
        ServingError: there is no result.
    """
    if not result.regressions:
        invalid("Cannot convert empty RegressionResults to JSON")
    numbers = [writer.decimal32(regression.value) for regression in result.regressions]
    return writer.finished(writer.json_object({RESULTS: writer.array_in_one_line(numbers)}, 0))
