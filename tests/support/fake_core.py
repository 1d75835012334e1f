"""A core that answers from memory, for tests of the REST port."""

import threading
from collections.abc import Callable
from typing import Any

from google.protobuf import text_format
from grpc import StatusCode
from tensorflow_serving.apis.classification_pb2 import (
    ClassificationRequest,
    ClassificationResponse,
)
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResponse

from model.server.errors import ServingError

SIGNATURES = """
signature_def {
  key: "serving_default"
  value {
    inputs {
      key: "x"
      value {
        name: "x:0" dtype: DT_FLOAT
        tensor_shape { dim { size: -1 } }
      }
    }
    outputs { key: "y" value { name: "y:0" dtype: DT_FLOAT tensor_shape { unknown_rank: true } } }
    method_name: "tensorflow/serving/predict"
  }
}
"""


class FakeCore:
    """Knows one model, version 123, whose outputs are its inputs; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.timeouts: list[float | None] = []
        self.before: Callable[[], None] = lambda: None

    def predict(self, request: PredictRequest, timeout_seconds: float | None) -> PredictResponse:
        self._ask(request, timeout_seconds)
        return PredictResponse(outputs={"y": request.inputs["x"]})

    def classify(
        self, request: ClassificationRequest, timeout_seconds: float | None
    ) -> ClassificationResponse:
        self._ask(request, timeout_seconds)
        return text_format.Parse(
            "result { classifications { classes { label: 'hat' score: 0.5 } } }",
            ClassificationResponse(),
        )

    def regress(
        self, request: RegressionRequest, timeout_seconds: float | None
    ) -> RegressionResponse:
        self._ask(request, timeout_seconds)
        return text_format.Parse("result { regressions { value: 2 } }", RegressionResponse())

    def get_model_status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        self._ask(request)
        return text_format.Parse(
            "model_version_status { version: 123 state: AVAILABLE status {} }",
            GetModelStatusResponse(),
        )

    def get_model_metadata(self, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
        self._ask(request)
        response = GetModelMetadataResponse(model_spec=ModelSpec(name=request.model_spec.name))
        response.model_spec.version.value = 123
        response.metadata["signature_def"].Pack(self.signature_def(request.model_spec)[0])
        return response

    def signature_def(self, model_spec: ModelSpec) -> tuple[SignatureDefMap, int]:
        assert isinstance(model_spec, ModelSpec)
        return text_format.Parse(SIGNATURES, SignatureDefMap()), 123

    def _ask(self, request: Any, timeout_seconds: float | None = None) -> None:
        self.asked.append(request)
        self.timeouts.append(timeout_seconds)
        self.before()


class RefusingCore(FakeCore):
    """Answers every request with one error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error
        self.before = self._refuse

    def _refuse(self) -> None:
        raise self._error

    @classmethod
    def with_code(cls, code: StatusCode, message: str = "no") -> "RefusingCore":
        return cls(ServingError(code, message))


class WaitingCore(FakeCore):
    """Holds every request until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.before = self._wait

    def _wait(self) -> None:
        self.arrived.release()
        assert self.go_on.wait(30)
