"""TensorFlow Serving's REST routes: a request in, a reply out, no sockets.

The routes are matched against the whole target, its query included, and the case of letters does
not matter in them, except that `:predict`, `:classify`, `:regress` and `/metadata` have effect in
lower case only: that is how TensorFlow Serving's own matching turns out.
"""

import logging
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from grpc import StatusCode
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
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

from model.server import json_examples, json_messages, json_predictions, json_tensors
from model.server import json_writer as writer
from model.server.errors import ServingError, failed_precondition, invalid
from model.server.json_reader import string_bytes
from model.server.metrics import CONTENT_TYPE as METRICS_CONTENT_TYPE
from model.server.servable import DEFAULT_SIGNATURE

LOG = logging.getLogger(__name__)

HTTP_STATUSES: Final[Mapping[StatusCode, int]] = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
    StatusCode.UNAUTHENTICATED: 401,
}
JSON_HEADERS: Final = {"Content-Type": "application/json"}
CORS_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
MAX_UNZIPPED_BYTES: Final = 100 * 1024 * 1024

_VERSION_OR_LABEL = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_FLAGS = re.IGNORECASE | re.ASCII
_UNDER_V1 = re.compile(r"/v1/.*", _FLAGS)
_CALL = re.compile(rf"/v1/models/([^/:]+){_VERSION_OR_LABEL}:(classify|regress|predict)", _FLAGS)
_STATUS = re.compile(rf"/v1/models(?:/([^/:]+))?{_VERSION_OR_LABEL}(?:/(metadata))?", _FLAGS)
_ORIGIN = re.compile("https?://")


class Core(Protocol):
    """The part of `ServerCore` that REST calls; every method raises `ServingError`."""

    def predict(self, request: PredictRequest, timeout_seconds: float | None) -> PredictResponse:
        """Run a signature on tensors."""

    def classify(
        self, request: ClassificationRequest, timeout_seconds: float | None
    ) -> ClassificationResponse:
        """Run a classify signature on examples."""

    def regress(
        self, request: RegressionRequest, timeout_seconds: float | None
    ) -> RegressionResponse:
        """Run a regress signature on examples."""

    def get_model_status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """The states of a model's versions."""

    def get_model_metadata(self, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
        """A version's signatures, for callers."""

    def signature_def(self, model_spec: ModelSpec) -> tuple[SignatureDefMap, int]:
        """A version's signatures, and the version."""


class RequestCounter(Protocol):
    """The part of the metrics that REST feeds and serves."""

    def count_request(self, model: str, status: str) -> None:
        """A request was answered with the code of this name."""

    def observe_request_latency(
        self, model: str, api: str, entrypoint: str, seconds: float
    ) -> None:
        """A request was answered with success."""

    def text(self) -> str:
        """The page of metrics."""


@dataclass(frozen=True)
class Request:
    """What came: the target as it stands in the request line, and the headers that count."""

    method: str
    target: str
    body: bytes = b""
    content_encoding: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Reply:
    """What goes back: a status, headers besides the length, a body."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Target:
    """What a path names; `action` is a method, `metadata`, or nothing for the status."""

    spec: ModelSpec = field(default_factory=ModelSpec)
    action: str = ""
    matched: bool = False


class RestApi:
    """Answers requests by the core.

    Args:
        core: what answers.
        metrics: gets a count of every request under /v1/.
        timeout_seconds: how long a model may run for one request; None or 0 for no limit.
        cors: whether replies allow other origins to read them.
        monitoring_path: where the metrics are; None for nowhere.
    """

    def __init__(
        self,
        core: Core,
        metrics: RequestCounter,
        *,
        timeout_seconds: float | None = None,
        cors: bool = False,
        monitoring_path: str | None = None,
    ) -> None:
        self._core = core
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds if timeout_seconds and timeout_seconds > 0 else None
        self._cors = cors
        self._monitoring_path = monitoring_path

    def answer(self, request: Request) -> Reply:
        """The reply to one request."""
        if self._monitoring_path is not None and _path(request.target) == self._monitoring_path:
            return self._page_of_metrics(request.target)
        if not _UNDER_V1.fullmatch(request.target):
            return page(404, "Not Found")
        if "gzip" in request.content_encoding:
            request = replace(request, body=unzipped(request.body))
        return self._answer_counted(request)

    def _page_of_metrics(self, target: str) -> Reply:
        headers = {"Content-Type": METRICS_CONTENT_TYPE}
        if target != self._monitoring_path:
            text = f"Unexpected path: {target}. Should be {self._monitoring_path}"
            return Reply(400, string_bytes(text), headers)
        return Reply(200, self._metrics.text().encode(), headers)

    def _answer_counted(self, request: Request) -> Reply:
        start = time.monotonic()
        target = _Target()
        code = StatusCode.OK
        headers: Mapping[str, str] = {} if request.method == "OPTIONS" else JSON_HEADERS
        try:
            answer = self._dispatch(request, target)
        except ServingError as error:
            code, answer, headers = error.code, error_body(error.message), JSON_HEADERS
        except Exception:
            LOG.exception("the request %s %s failed", request.method, request.target)
            code, answer = StatusCode.INTERNAL, error_body("Internal error: see the server's log.")
        api = target.action if request.method == "POST" else ""
        if code is StatusCode.OK:
            elapsed = time.monotonic() - start
            self._metrics.observe_request_latency(target.spec.name, api, "REST", elapsed)
        self._metrics.count_request(target.spec.name, code.name)
        cors = CORS_HEADERS if self._cors else {}
        return Reply(HTTP_STATUSES[code], answer, {**headers, **cors})

    def _dispatch(self, request: Request, target: _Target) -> bytes:
        if request.method == "OPTIONS":
            if not _ORIGIN.search(request.origin):
                failed_precondition("Origin header is missing in CORS preflight")
            return b""
        _read_target(request, target)
        handlers: dict[tuple[str, str], Callable[[ModelSpec, bytes], bytes]] = {
            ("POST", "predict"): self._predict,
            ("POST", "classify"): self._classify,
            ("POST", "regress"): self._regress,
            ("GET", "metadata"): self._metadata,
            ("GET", ""): self._status,
        }
        handler = handlers.get((request.method, target.action))
        if handler is None or not target.matched:
            invalid(f"Malformed request: {request.method} {request.target}")
        return handler(target.spec, request.body)

    def _predict(self, spec: ModelSpec, body: bytes) -> bytes:
        request = PredictRequest(model_spec=spec)
        form = json_tensors.fill_predict_request(
            body, lambda signature: self._inputs(spec, signature), request
        )
        response = self._core.predict(request, self._timeout_seconds)
        return json_predictions.predict_body(response.outputs, form)

    def _inputs(self, spec: ModelSpec, signature: str) -> Mapping[str, TensorInfo]:
        name = signature or DEFAULT_SIGNATURE
        signatures, _ = self._core.signature_def(spec)
        if name not in signatures.signature_def:
            invalid(f'Serving signature name: "{name}" not found in signature def')
        inputs: Mapping[str, TensorInfo] = signatures.signature_def[name].inputs
        return inputs

    def _classify(self, spec: ModelSpec, body: bytes) -> bytes:
        request = ClassificationRequest(model_spec=spec)
        json_examples.fill_examples_request(body, request)
        response = self._core.classify(request, self._timeout_seconds)
        return json_examples.classification_body(response.result)

    def _regress(self, spec: ModelSpec, body: bytes) -> bytes:
        request = RegressionRequest(model_spec=spec)
        json_examples.fill_examples_request(body, request)
        response = self._core.regress(request, self._timeout_seconds)
        return json_examples.regression_body(response.result)

    def _status(self, spec: ModelSpec, _body: bytes) -> bytes:
        _check_named(spec)
        response = self._core.get_model_status(GetModelStatusRequest(model_spec=spec))
        return json_messages.status_body(response)

    def _metadata(self, spec: ModelSpec, _body: bytes) -> bytes:
        _check_named(spec)
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        return json_messages.metadata_body(self._core.get_model_metadata(request))


def _check_named(spec: ModelSpec) -> None:
    if not spec.name:
        invalid("Missing model name in request.")


def _read_target(request: Request, target: _Target) -> None:
    """Fill in what a path names, as far as it can be read."""
    route = {"POST": _CALL, "GET": _STATUS}.get(request.method)
    match = route.fullmatch(request.target) if route else None
    if match is None:
        return
    name, version, label, action = match.groups(default="")
    target.spec.name = _decoded(name)
    if version:
        target.spec.version.value = _version(version)
    if label:
        target.spec.version_label = _decoded(label)
    target.action = "" if request.method == "GET" and action != "metadata" else action
    target.matched = True


def _version(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    if len(significant) > len(str(2**63)) or int(significant) >= 2**63:
        invalid(f"Failed to convert version: {digits} to numeric.")
    return int(significant)


def _decoded(text: str) -> str:
    return unquote_to_bytes(string_bytes(text)).decode("utf-8", "replace")


def _path(target: str) -> str:
    return target.partition("?")[0].partition("#")[0]


def error_body(message: str) -> bytes:
    """The JSON of an error."""
    return writer.finished(writer.json_object({"error": writer.quoted(message)}, 0))


def page(status: int, phrase: str) -> Reply:
    """The bare page for what never reaches a route."""
    body = (
        f"<HTML><HEAD>\n<TITLE>{status} {phrase}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{phrase}</H1>\n</BODY></HTML>\n"
    )
    return Reply(status, body.encode(), {"Content-Type": "text/html"})


def unzipped(body: bytes) -> bytes:
    """The content of a gzip body; nothing when it is damaged or too large, as the server has it."""
    reader = zlib.decompressobj(wbits=31)
    try:
        content = reader.decompress(body, MAX_UNZIPPED_BYTES)
    except zlib.error:
        return b""
    return content if reader.eof else b""
