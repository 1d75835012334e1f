"""Each gRPC row of the reference's table of errors, against a running server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.support import tiny_models
from tests.support.model_server import ModelServer, error_of, starting
from tests.support.serving_reference import row
from tests.support.tiny_models import CLASSIFY, example, predict_request

SECONDS = 30.0


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "half"
    tiny_models.write_half_plus(path / "1")
    return path


@pytest.fixture(scope="module")
def server(base_path: Path) -> Iterator[ModelServer]:
    with starting(model_name="half", model_base_path=base_path) as server:
        yield server


def error_of_predict(server: ModelServer, request: predict_pb2.PredictRequest) -> tuple[str, str]:
    return error_of(lambda: server.prediction.Predict(request, timeout=SECONDS))


def test_an_unknown_model_is_named(server: ModelServer) -> None:
    error = error_of_predict(server, predict_request("nobody", [1.0]))
    row("errors.unknown-model").check(*error, NAME="nobody")


def test_an_unknown_version_is_named(server: ModelServer) -> None:
    request = predict_request("half", [1.0])
    request.model_spec.version.value = 7
    row("errors.unknown-version").check(*error_of_predict(server, request), NAME="half")


def test_an_unknown_label_is_named(server: ModelServer) -> None:
    request = predict_request("half", [1.0])
    request.model_spec.version_label = "stable"
    row("errors.unknown-label").check(*error_of_predict(server, request), LABEL="stable")


@pytest.mark.parametrize(
    ("method", "request_type"),
    [
        ("Predict", predict_pb2.PredictRequest),
        ("Classify", classification_pb2.ClassificationRequest),
        ("Regress", regression_pb2.RegressionRequest),
        ("GetModelMetadata", get_model_metadata_pb2.GetModelMetadataRequest),
    ],
)
def test_a_request_without_a_model_spec_is_refused(
    server: ModelServer, method: str, request_type: Any
) -> None:
    call = getattr(server.prediction, method)
    row("errors.no-model-spec").check(*error_of(lambda: call(request_type(), timeout=SECONDS)))


def test_a_status_request_without_a_model_spec_is_refused(server: ModelServer) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    error = error_of(lambda: server.models.GetModelStatus(request, timeout=SECONDS))
    row("errors.no-model-spec").check(*error)


def test_an_empty_name_is_refused(server: ModelServer) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.SetInParent()
    row("errors.empty-name").check(*error_of_predict(server, request))
    multi = inference_pb2.MultiInferenceRequest()
    error = error_of(lambda: server.prediction.MultiInference(multi, timeout=SECONDS))
    row("errors.empty-name").check(*error)


def test_a_missing_signature_is_named_by_predict(server: ModelServer) -> None:
    request = predict_request("half", [1.0], signature_name="nothing")
    error = error_of_predict(server, request)
    row("errors.missing-signature-predict").check(*error, SIG="nothing")


def test_a_missing_signature_is_named_by_classify(server: ModelServer) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "half", "nothing"
    error = error_of(lambda: server.prediction.Classify(request, timeout=SECONDS))
    row("errors.missing-signature-classify").check(*error, SIG="nothing")


def test_a_missing_signature_is_named_by_regress(server: ModelServer) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "half", "nothing"
    error = error_of(lambda: server.prediction.Regress(request, timeout=SECONDS))
    row("errors.missing-signature-regress").check(*error, SIG="nothing")


def multi_inference(
    *tasks: tuple[str, str, str], inputs: tuple[float, ...] = (1.0,)
) -> inference_pb2.MultiInferenceRequest:
    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    request.input.example_list.examples.extend(example(x) for x in inputs)
    return request


def error_of_multi_inference(server: ModelServer, *tasks: tuple[str, str, str]) -> tuple[str, str]:
    request = multi_inference(*tasks)
    return error_of(lambda: server.prediction.MultiInference(request, timeout=SECONDS))


def test_a_missing_signature_is_named_by_multi_inference(server: ModelServer) -> None:
    error = error_of_multi_inference(server, ("half", "nothing", CLASSIFY))
    row("errors.missing-signature-multi-inference").check(*error, SIG="nothing")


def test_multi_inference_over_two_models_is_refused(server: ModelServer) -> None:
    error = error_of_multi_inference(
        server, ("half", "classify", CLASSIFY), ("other", "classify", CLASSIFY)
    )
    row("errors.multi-inference-mixed-models").check(*error)


def test_multi_inference_of_one_signature_twice_is_refused(server: ModelServer) -> None:
    error = error_of_multi_inference(
        server, ("half", "classify", CLASSIFY), ("half", "classify", CLASSIFY)
    )
    row("errors.multi-inference-duplicate").check(*error, S="classify")


def test_multi_inference_of_another_method_is_refused(server: ModelServer) -> None:
    error = error_of_multi_inference(server, ("half", "classify", "guess"))
    row("errors.multi-inference-method").check(*error, M="guess")


def test_a_wrong_number_of_inputs_is_listed(server: ModelServer) -> None:
    request = predict_request("half", [1.0])
    request.inputs.clear()
    row("errors.wrong-number-of-inputs").check(*error_of_predict(server, request))


def test_a_wrong_input_name_is_named(server: ModelServer) -> None:
    request = predict_request("half", [1.0], alias="y")
    row("errors.wrong-input-name").check(*error_of_predict(server, request))


def test_an_extra_input_beside_defaults_is_named(server: ModelServer) -> None:
    request = predict_request("half", [1.0], signature_name="pair")
    request.inputs["y"].CopyFrom(request.inputs["x"])
    row("errors.extra-input-with-defaults").check(*error_of_predict(server, request))


def test_bytes_that_do_not_fit_the_shape_are_refused(server: ModelServer) -> None:
    request = predict_request("half", [1.0, 2.0])
    request.inputs["x"].tensor_content = b"\0" * 7
    row("errors.tensor-bytes").check(*error_of_predict(server, request))


def test_a_wrong_dtype_is_the_runtimes_error(server: ModelServer) -> None:
    request = predict_request("half", [1.0])
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([b"a"]))
    row("errors.wrong-dtype").check(*error_of_predict(server, request))


def test_a_wrong_shape_is_the_first_operations_error(server: ModelServer) -> None:
    request = predict_request("half", np.ones((1, 3)), signature_name="matrix")
    row("errors.wrong-shape").check(*error_of_predict(server, request))


def test_an_unknown_output_is_named(server: ModelServer) -> None:
    request = predict_request("half", [1.0])
    request.output_filter.append("nothing")
    code, text = error_of_predict(server, request)
    row("errors.output-filter-unknown").check(code, text, A="nothing")
    assert text.endswith(" {y}.")


def test_an_output_asked_for_twice_is_named(server: ModelServer) -> None:
    request = predict_request("half", [1.0])
    request.output_filter.extend(["y", "y"])
    row("errors.output-filter-duplicate").check(*error_of_predict(server, request), A="y")


def test_the_status_of_an_unknown_model_or_version_is_not_found(server: ModelServer) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "nobody"
    error = error_of(lambda: server.models.GetModelStatus(request, timeout=SECONDS))
    row("errors.status-unknown-model").check(*error, NAME="nobody")
    request.model_spec.name, request.model_spec.version.value = "half", 7
    error = error_of(lambda: server.models.GetModelStatus(request, timeout=SECONDS))
    row("errors.status-unknown-version").check(*error, NAME="half")


def test_metadata_needs_a_field_that_is_known(server: ModelServer) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "half"
    error = error_of(lambda: server.prediction.GetModelMetadata(request, timeout=SECONDS))
    row("errors.metadata-no-field").check(*error)
    request.metadata_field.append("weights")
    error = error_of(lambda: server.prediction.GetModelMetadata(request, timeout=SECONDS))
    row("errors.metadata-bad-field").check(*error, F="weights")


@pytest.mark.parametrize("with_context", [False, True])
def test_an_input_without_an_example_is_refused(server: ModelServer, with_context: bool) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "half", "regress"
    if with_context:
        request.input.example_list_with_context.context.SetInParent()
    error = error_of(lambda: server.prediction.Regress(request, timeout=SECONDS))
    row("errors.empty-input").check(*error)


def reload_request(
    *models: dict[str, str],
) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for model in models:
        request.config.model_config_list.config.add(**{"model_platform": "tensorflow", **model})
    return request


def error_of_reload(server: ModelServer, *models: dict[str, str]) -> tuple[str, str]:
    request = reload_request(*models)
    return error_of(lambda: server.models.HandleReloadConfigRequest(request, timeout=SECONDS))


def test_a_reload_needs_a_list_of_models(server: ModelServer) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    error = error_of(lambda: server.models.HandleReloadConfigRequest(request, timeout=SECONDS))
    row("errors.reload-not-a-list").check(*error)
    request.config.custom_model_config.SetInParent()
    error = error_of(lambda: server.models.HandleReloadConfigRequest(request, timeout=SECONDS))
    row("errors.reload-not-a-list").check(*error)


def test_a_reload_with_a_name_twice_is_refused(server: ModelServer, base_path: Path) -> None:
    model = {"name": "half", "base_path": str(base_path)}
    error = error_of_reload(server, model, model)
    row("errors.reload-duplicate-name").check(*error, NAME="half")


def test_a_reload_with_a_relative_path_is_refused(server: ModelServer) -> None:
    error = error_of_reload(server, {"name": "half", "base_path": "models/half"})
    row("errors.reload-relative-path").check(*error, NAME="half", P="models/half")


def test_a_reload_without_a_platform_is_refused(server: ModelServer, base_path: Path) -> None:
    model = {"name": "new", "base_path": str(base_path), "model_platform": ""}
    row("errors.reload-platform-missing").check(*error_of_reload(server, model), NAME="new")


def test_a_reload_with_an_unknown_platform_is_refused(server: ModelServer, base_path: Path) -> None:
    # The FAILED_PRECONDITION of "errors.reload-platform-no-entry" comes of a platform map that
    # lacks a platform its router knows; with the server's own map it cannot be had.
    model = {"name": "new", "base_path": str(base_path), "model_platform": "caffe"}
    error = error_of_reload(server, model)
    row("errors.reload-platform-unsupported").check(*error, NAME="new", P="caffe")


def test_a_reload_that_changes_a_platform_is_refused(server: ModelServer, base_path: Path) -> None:
    model = {"name": "half", "base_path": str(base_path), "model_platform": "caffe"}
    error = error_of_reload(server, model)
    row("errors.reload-platform-changed").check(*error, N="half", A="tensorflow", B="caffe")


def test_a_label_on_a_version_that_is_not_loaded_is_refused(
    server: ModelServer, base_path: Path
) -> None:
    request = reload_request({"name": "half", "base_path": str(base_path)})
    request.config.model_config_list.config[0].version_labels["stable"] = 9
    error = error_of(lambda: server.models.HandleReloadConfigRequest(request, timeout=SECONDS))
    row("errors.label-to-unloaded-version").check(*error, V=9, NAME="half")


def test_after_refused_reloads_the_model_still_answers(server: ModelServer) -> None:
    response = server.prediction.Predict(predict_request("half", [4.0]), timeout=SECONDS)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [4.0]


def test_the_session_service_is_not_registered(server: ModelServer) -> None:
    call = server.channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    code, _ = error_of(lambda: call(b"", timeout=SECONDS))
    assert code == row("grpc.session-run").grpc_code


def test_a_long_error_text_is_cut_after_1024_bytes(server: ModelServer) -> None:
    code, text = error_of_predict(server, predict_request("n" * 2000, [1.0]))
    row("grpc.long-error-text").check_text(text)
    assert code == "NOT_FOUND"
    assert text == "Servable not found for request: Latest(".ljust(1024, "n") + "...TRUNCATED"


def test_a_run_that_outlasts_its_time_ends_with_the_deadline(server: ModelServer) -> None:
    # Text and code of "errors.run-timeout" are unconfirmed; the caller's own gRPC library ends the
    # call at the same moment with a text of its own.
    request = predict_request("half", [1.0], signature_name="wait")
    code, _ = error_of(lambda: server.prediction.Predict(request, timeout=0.2))
    assert code == row("errors.run-timeout").grpc_code
