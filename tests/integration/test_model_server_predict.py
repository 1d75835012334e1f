"""What a running model server answers over gRPC."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import wrappers_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.support import tiny_models
from tests.support.model_server import ModelServer, error_of, starting, wait_until
from tests.support.tiny_models import CLASSIFY, REGRESS, example, predict_request

SECONDS = 30.0


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "half"
    tiny_models.write_half_plus(path / "00000123")
    return path


@pytest.fixture(scope="module")
def server(base_path: Path) -> Iterator[ModelServer]:
    flags = {"enable_grpc_healthcheck_service": True, "grpc_socket_path": base_path / "grpc.sock"}
    with starting(model_name="half", model_base_path=base_path, **flags) as server:
        yield server


@pytest.fixture(scope="module")
def content_server(base_path: Path) -> Iterator[ModelServer]:
    flags = {
        "enable_serialization_as_tensor_content": True,
        "enable_signature_method_name_check": True,
        "grpc_channel_arguments": "grpc.max_receive_message_length=100000",
    }
    with starting(model_name="half", model_base_path=base_path, **flags) as server:
        yield server


def predict(server: ModelServer, request: predict_pb2.PredictRequest) -> Any:
    return server.prediction.Predict(request, timeout=SECONDS)


def test_predict_answers_in_repeated_fields_and_names_what_answered(server: ModelServer) -> None:
    response = predict(server, predict_request("half", [[1.0, 2.0], [3.0, 4.0]]))
    output = response.outputs["y"]
    assert list(output.float_val) == [2.5, 3.0, 3.5, 4.0]
    assert [dimension.size for dimension in output.tensor_shape.dim] == [2, 2]
    assert output.tensor_content == b""
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("half", "serving_default", 123)


def test_a_version_may_be_named(server: ModelServer) -> None:
    request = predict_request("half", [1.0], signature_name="serving_default")
    request.model_spec.version.value = 123
    assert list(predict(server, request).outputs["y"].float_val) == [2.5]


def test_an_output_filter_chooses_outputs(server: ModelServer) -> None:
    request = predict_request("half", [1.0], signature_name="both")
    assert set(predict(server, request).outputs) == {"y", "again"}
    request.output_filter.append("again")
    assert set(predict(server, request).outputs) == {"again"}


def test_a_default_stands_in_for_a_missing_input(server: ModelServer) -> None:
    request = predict_request("half", [1.0], signature_name="pair")
    [output] = predict(server, request).outputs.values()
    assert list(output.float_val) == [11.0]


def test_strings_are_answered(server: ModelServer) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "half", "text"
    request.inputs["number"].CopyFrom(tf.make_tensor_proto(np.array([1], np.int64)))
    assert list(predict(server, request).outputs["text"].string_val) == [b"warm"]


def test_a_message_of_many_megabytes_is_taken_and_answered(server: ModelServer) -> None:
    x = np.zeros(3_000_000, np.float32)
    response = predict(server, predict_request("half", x))
    assert len(response.outputs["y"].float_val) == len(x)


def examples_of(request: Any, signature: str, *numbers: float) -> Any:
    request.model_spec.name, request.model_spec.signature_name = "half", signature
    request.input.example_list.examples.extend(example(number) for number in numbers)
    return request


def test_classify_answers_labels_and_scores(server: ModelServer) -> None:
    request = examples_of(classification_pb2.ClassificationRequest(), "classify", 0.25, 1.0)
    response = server.prediction.Classify(request, timeout=SECONDS)
    answered = [
        [(entry.label, entry.score) for entry in entries.classes]
        for entries in response.result.classifications
    ]
    assert answered == [[("cold", 0.75), ("warm", 0.25)], [("cold", 0.0), ("warm", 1.0)]]
    assert response.model_spec.version.value == 123
    assert response.model_spec.signature_name == "classify"


def test_classify_may_answer_scores_alone(server: ModelServer) -> None:
    request = examples_of(classification_pb2.ClassificationRequest(), "classify_scores", 0.25)
    [entries] = server.prediction.Classify(request, timeout=SECONDS).result.classifications
    assert [(entry.label, entry.score) for entry in entries.classes] == [("", 0.75), ("", 0.25)]


def test_regress_answers_a_value_for_each_example(server: ModelServer) -> None:
    request = examples_of(regression_pb2.RegressionRequest(), "regress", 2.0, 4.0)
    response = server.prediction.Regress(request, timeout=SECONDS)
    assert [regression.value for regression in response.result.regressions] == [3.0, 4.0]
    assert response.model_spec.signature_name == "regress"


def test_a_context_is_merged_into_each_example(server: ModelServer) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "half", "regress"
    with_context = request.input.example_list_with_context
    with_context.context.CopyFrom(example(6.0))
    with_context.examples.extend([tf.train.Example(), example(2.0)])
    response = server.prediction.Regress(request, timeout=SECONDS)
    assert [regression.value for regression in response.result.regressions] == [5.0, 3.0]


@pytest.mark.parametrize(
    ("call", "request_type", "signature", "said"),
    [
        (
            "Classify",
            classification_pb2.ClassificationRequest,
            "serving_default",
            "No classification inputs found in SignatureDef: ",
        ),
        (
            "Classify",
            classification_pb2.ClassificationRequest,
            "regress",
            "Expected classification signature outputs to contain at least one of "
            '"classes" or "scores". Signature was: ',
        ),
        ("Classify", classification_pb2.ClassificationRequest, "pair", "Expected one input Tensor"),
        ("Regress", regression_pb2.RegressionRequest, "classify", "Expected one output Tensor."),
        (
            "Regress",
            regression_pb2.RegressionRequest,
            "renamed",
            "No regression inputs found in SignatureDef: ",
        ),
        (
            "Regress",
            regression_pb2.RegressionRequest,
            "classify_scores",
            "No regression outputs found in SignatureDef: ",
        ),
    ],
)
def test_a_signature_of_another_kind_is_refused(
    server: ModelServer, call: str, request_type: Any, signature: str, said: str
) -> None:
    request = examples_of(request_type(), signature, 1.0)
    code, text = error_of(lambda: getattr(server.prediction, call)(request, timeout=SECONDS))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith(said)


def test_multi_inference_answers_each_task_from_one_run(server: ModelServer) -> None:
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in (("classify", CLASSIFY), ("regress", REGRESS)):
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = "half", signature
    request.input.example_list.examples.append(example(1.0))
    response = server.prediction.MultiInference(request, timeout=SECONDS)
    classified, regressed = response.results
    assert classified.classification_result.classifications[0].classes[1].label == "warm"
    assert regressed.regression_result.regressions[0].value == 2.5
    assert regressed.model_spec.signature_name == "regress"
    assert regressed.model_spec.version.value == 123


def test_metadata_holds_every_signature_without_defaults(server: ModelServer) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name, request.model_spec.signature_name = "half", "ignored"
    response = server.prediction.GetModelMetadata(request, timeout=SECONDS)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half", 123, "")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.inputs["x"].name == "serving_default_x:0"
    assert default.method_name == "tensorflow/serving/predict"
    assert not signatures.signature_def["pair"].defaults


def test_status_is_ok_and_available(server: ModelServer) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    request.model_spec.version.value = 123
    [status] = server.models.GetModelStatus(request, timeout=SECONDS).model_version_status
    assert (status.version, status.state, status.status.error_code) == (123, 30, 0)
    request.model_spec.version_label = "ignored"
    assert server.models.GetModelStatus(request, timeout=SECONDS).model_version_status


def check_health(server: ModelServer, service: str) -> int:
    call = server.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=wrappers_pb2.Int32Value.FromString,
    )
    return int(call(wrappers_pb2.StringValue(value=service), timeout=SECONDS).value)


def test_health_is_served_by_the_official_short_names(server: ModelServer) -> None:
    assert [check_health(server, name) for name in ("", "ModelService", "PredictionService")] == [
        1,
        1,
        1,
    ]
    code, _ = error_of(lambda: check_health(server, "tensorflow.serving.ModelService"))
    assert code == "NOT_FOUND"


def test_health_can_be_watched(server: ModelServer) -> None:
    watch = server.channel.unary_stream(
        "/grpc.health.v1.Health/Watch", response_deserializer=wrappers_pb2.Int32Value.FromString
    )
    known = watch(wrappers_pb2.StringValue(value="").SerializeToString(), timeout=SECONDS)
    assert next(known).value == 1
    known.cancel()
    unknown = watch(wrappers_pb2.StringValue(value="x").SerializeToString(), timeout=SECONDS)
    assert next(unknown).value == 3
    unknown.cancel()


def test_watches_leave_threads_for_predictions(server: ModelServer) -> None:
    watch = server.channel.unary_stream("/grpc.health.v1.Health/Watch")

    def codes() -> set[str]:
        watches = [watch(b"", timeout=SECONDS) for _ in range(4 * (os.cpu_count() or 1))]
        answered = [first_event(known) for known in watches]
        assert predict(server, predict_request("half", [1.0]))
        found = {known.code().name if known.done() else "OPEN" for known in answered}
        for known in watches:
            known.cancel()
        return found

    # Watches of an earlier test may still be closing.
    wait_until(lambda: codes() == {"OPEN", "RESOURCE_EXHAUSTED"}, lambda: str(codes()))


def first_event(known: Any) -> Any:
    """The watch, after it answered or was refused."""
    with contextlib.suppress(grpc.RpcError):
        next(known)
    return known


def test_a_socket_answers_too(server: ModelServer, base_path: Path) -> None:
    assert server.port
    with grpc.insecure_channel(f"unix:{base_path / 'grpc.sock'}") as channel:
        other = ModelServer(server.process)
        other.__dict__["channel"] = channel
        assert list(predict(other, predict_request("half", [0.0])).outputs["y"].float_val) == [2.0]


def test_outputs_are_bytes_where_asked(content_server: ModelServer) -> None:
    output = predict(content_server, predict_request("half", [0.0])).outputs["y"]
    assert output.tensor_content == np.array([2.0], np.float32).tobytes()
    assert not output.float_val


def test_health_is_off_unless_asked_for(content_server: ModelServer) -> None:
    assert error_of(lambda: check_health(content_server, ""))[0] == "UNIMPLEMENTED"


def test_channel_arguments_reach_grpc(content_server: ModelServer) -> None:
    request = predict_request("half", np.zeros(100_000))
    code, text = error_of(lambda: predict(content_server, request))
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in text


def test_method_names_are_checked_where_asked(content_server: ModelServer) -> None:
    request = examples_of(regression_pb2.RegressionRequest(), "classify", 1.0)
    error = error_of(lambda: content_server.prediction.Regress(request, timeout=SECONDS))
    assert error == (
        "INVALID_ARGUMENT",
        "Expected regression signature method_name to be tensorflow/serving/regress. "
        "Was: tensorflow/serving/classify",
    )
