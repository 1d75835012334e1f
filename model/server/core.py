"""ServerCore: every RPC as a method on the protocol's own messages, for both fronts."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from model.server import config as configs
from model.server import examples
from model.server.errors import ServingError, failed_precondition, invalid, not_found
from model.server.flags import CPUS
from model.server.labels import VersionLabels
from model.server.manager import Load, LoadPolicy, ModelManager
from model.server.predict import PredictOptions, predict
from model.server.recorder import Recorder
from model.server.servable import Servable
from model.server.session import TimedSession
from model.server.source import VersionSource
from model.server.states import StateBoard, VersionState

log = logging.getLogger(__name__)

SIGNATURE_DEF = "signature_def"


@dataclass(frozen=True)
class CoreOptions:
    """What of the flags the core itself needs."""

    poll_seconds: float = 1.0
    load_policy: LoadPolicy = field(default_factory=LoadPolicy)
    predict: PredictOptions = field(default_factory=PredictOptions)
    allow_labels_for_unavailable: bool = False
    initial_load_threads: int = 4 * CPUS


class ServerCore:
    """What gRPC and REST both call. Every method raises `ServingError` with the served text.

    `timeout_seconds` is what is left of the caller's deadline; None is no deadline.
    """

    def __init__(self, load: Load, recorder: Recorder, options: CoreOptions | None = None) -> None:
        self._options = options or CoreOptions()
        self._recorder = recorder
        self._board = StateBoard()
        self._labels = VersionLabels(
            self._board, allow_unavailable=self._options.allow_labels_for_unavailable
        )
        self._manager = ModelManager(load, self._board, self._options.load_policy)
        self._source = VersionSource(self._manager.want, self._options.poll_seconds)
        self._config = model_server_config_pb2.ModelServerConfig()
        self._config_lock = threading.Lock()

    def start(self, config: Any) -> None:
        """Load the models of the first configuration; returns when each version is available.

        Raises:
            ServingError: the configuration is wrong, or a model failed.
        """
        self._manager.start()
        self._source.start()
        with self._manager.load_threads(self._options.initial_load_threads):
            self.reload(config, first=True)

    def stop(self) -> None:
        """End the threads; call it after the fronts have stopped."""
        self._source.stop()
        self._manager.stop()

    def reload(
        self, config: Any, *, first: bool = False, timeout_seconds: float | None = None
    ) -> None:
        """Replace the set of models and labels; returns when each new model is available.

        Labels are checked before models change: they can only name versions that are available
        by then, as in TensorFlow Serving.

        Raises:
            ServingError: UNKNOWN with the list of models that failed, or what is wrong in
                `config`; DEADLINE_EXCEEDED, the models go on loading. Models that are in both
                configurations serve all the while.
        """
        with self._config_lock:
            if config.WhichOneof("config") is None:
                log.info("Taking no action for empty config.")
                return
            if config.WhichOneof("config") != "model_config_list":
                failed_precondition("ModelServer does not yet support custom model config.")
            models = config.model_config_list.config
            before = self._config.model_config_list.config
            configs.check_models(models)
            configs.check_unchanged_platforms(before, models)
            configs.check_platforms(models)
            self._labels.replace(models)
            known = {model.name for model in before}
            self._config = type(self._config).FromString(config.SerializeToString())
            new = [model.name for model in models if model.name not in known]
            self._load(new, first, timeout_seconds)
            _refuse_logging(models)

    def _load(self, new: list[str], first: bool, timeout_seconds: float | None) -> None:
        noun = "servable(s)" if first else "model(s)"
        with self._board.watching() as watch:
            self._source.watch(self._config.model_config_list.config)
            try:
                failures = self._board.wait_for(new, watch, timeout_seconds)
            except TimeoutError as error:
                raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, str(error)) from error
        if failures:
            listed = "".join(str(failure) for failure in failures)
            raise ServingError(
                grpc.StatusCode.UNKNOWN,
                f"{len(failures)} {noun} did not become available: {{{listed}}}",
            )

    def predict(
        self, request: predict_pb2.PredictRequest, timeout_seconds: float | None = None
    ) -> predict_pb2.PredictResponse:
        """Run one signature on the request's tensors."""
        with self._timed(request, "Predict") as servable:
            return predict(servable, request, timeout_seconds, self._options.predict)

    def classify(
        self,
        request: classification_pb2.ClassificationRequest,
        timeout_seconds: float | None = None,
    ) -> classification_pb2.ClassificationResponse:
        """Run a classify signature on tf.Examples."""
        check = self._options.predict.check_method_names
        with self._timed(request, "Classify") as servable:
            return examples.classify(servable, request, timeout_seconds, check_method_names=check)

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout_seconds: float | None = None
    ) -> regression_pb2.RegressionResponse:
        """Run a regress signature on tf.Examples."""
        check = self._options.predict.check_method_names
        with self._timed(request, "Regress") as servable:
            return examples.regress(servable, request, timeout_seconds, check_method_names=check)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout_seconds: float | None = None
    ) -> inference_pb2.MultiInferenceResponse:
        """Run several signatures of one model on the same tf.Examples, in one run."""
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        check = self._options.predict.check_method_names
        with self._servable(spec) as servable:
            response, count = examples.multi_inference(
                servable, request, timeout_seconds, check_method_names=check
            )
        self._recorder.observe_example_count(spec.name, count)
        return response

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Answer a version's signatures, without their default values."""
        _check_spec(request)
        if not request.metadata_field:
            invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != SIGNATURE_DEF:
                invalid(f"Metadata field {name} is not supported")
        signatures, version = self.signature_def(request.model_spec)
        for signature in signatures.signature_def.values():
            signature.ClearField("defaults")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Answer the state of one version, or of all that are known; a label does not choose."""
        _check_spec(request)
        spec = request.model_spec
        versions = self._board.versions(spec.name)
        if spec.HasField("version"):
            if spec.version.value not in versions:
                not_found(f"Could not find version {spec.version.value} of model {spec.name}")
            versions = {spec.version.value: versions[spec.version.value]}
        if not versions:
            not_found(f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in versions.items():
            _add_status(response, version, state)
        return response

    def handle_reload_config_request(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        timeout_seconds: float | None = None,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replace the set of models; returns when each new one is available."""
        if request.config.WhichOneof("config") != "model_config_list":
            invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        before = {name: self._recorder.counter_value(name) for name in request.metric_names}
        self.reload(request.config, timeout_seconds=timeout_seconds)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            increase = self._recorder.counter_value(name) - value
            response.metric.add(name=name, int64_value_increase=increase)
        return response

    def signature_def(
        self, model_spec: model_pb2.ModelSpec
    ) -> tuple[get_model_metadata_pb2.SignatureDefMap, int]:
        """All signatures of the version that `model_spec` chooses, and that version."""
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._servable(model_spec) as servable:
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            return signatures, servable.version

    @contextmanager
    def _servable(self, spec: Any) -> Iterator[Servable]:
        """The version that a ModelSpec chooses, which stays loaded while it is used."""
        if not spec.name:
            invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        version: int | None = None
        if choice == "version":
            version = spec.version.value
        elif choice == "version_label":
            version = self._labels.version(spec.name, spec.version_label)
        with self._manager.servable(spec.name, version) as servable:
            yield servable

    @contextmanager
    def _timed(self, request: Any, api: str) -> Iterator[Servable]:
        """The version of a request; the time of its run is recorded if all goes well."""
        _check_spec(request)
        with self._servable(request.model_spec) as servable:
            session = TimedSession(servable.session)
            yield replace(servable, session=session)
        self._recorder.observe_runtime_latency(request.model_spec.name, api, session.seconds)


def _check_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        invalid("Missing ModelSpec")


def _add_status(response: Any, version: int, state: VersionState) -> None:
    status = response.model_version_status.add(version=version, state=state.state)
    status.status.SetInParent()
    if state.error is not None:
        status.status.error_code = state.error.code.value[0]
        status.status.error_message = state.error.message


def _refuse_logging(models: Any) -> None:
    if any(model.HasField("logging_config") for model in models):
        invalid("No request-logger-creator provided.")
