"""ServerCore: every RPC as a method on the protocol's own messages, for both fronts."""

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


class ServerCore:
    """What gRPC and REST both call. Every method raises `ServingError` with the served text.

    `timeout_seconds` is what is left of the caller's deadline; None is no deadline.
    """

    def predict(
        self, request: predict_pb2.PredictRequest, timeout_seconds: float | None = None
    ) -> predict_pb2.PredictResponse:
        """Run one signature on the request's tensors."""
        raise NotImplementedError

    def classify(
        self,
        request: classification_pb2.ClassificationRequest,
        timeout_seconds: float | None = None,
    ) -> classification_pb2.ClassificationResponse:
        """Run a classify signature on tf.Examples."""
        raise NotImplementedError

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout_seconds: float | None = None
    ) -> regression_pb2.RegressionResponse:
        """Run a regress signature on tf.Examples."""
        raise NotImplementedError

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout_seconds: float | None = None
    ) -> inference_pb2.MultiInferenceResponse:
        """Run several signatures of one model on the same tf.Examples, in one run."""
        raise NotImplementedError

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Answer a version's signatures."""
        raise NotImplementedError

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Answer the state of one version, or of all that are known."""
        raise NotImplementedError

    def handle_reload_config_request(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replace the set of models; returns when each new one is available."""
        raise NotImplementedError

    def signature_def(
        self, model_spec: model_pb2.ModelSpec
    ) -> tuple[get_model_metadata_pb2.SignatureDefMap, int]:
        """All signatures of the version that `model_spec` chooses, and that version."""
        raise NotImplementedError
