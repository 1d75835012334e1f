"""REST against a running server: each row of the reference that a caller can see."""

import base64
import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import requests

from tests.support import tiny_models
from tests.support.echo_model import write_echo
from tests.support.model_server import starting, wait_until
from tests.support.serving_reference import row

SECONDS = 30.0
CONFIG = """
model_config_list {{
  config {{
    name: "half" base_path: "{base}/half" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }}
  }}
  config {{ name: "echo" base_path: "{base}/echo" model_platform: "tensorflow" }}
}}
"""


class Rest:
    """The REST port of a running server."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.session = requests.Session()

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.base + path, timeout=SECONDS)

    def post(self, path: str, body: object, **more: Any) -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.post(self.base + path, data, timeout=SECONDS, **more)

    def error(self, path: str, body: object) -> tuple[int, str]:
        """The status and text of a POST that fails."""
        return error_of(self.post(path, body))


def error_of(response: requests.Response) -> tuple[int, str]:
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, response.json()["error"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("rest")
    tiny_models.write_half_plus(base / "half" / "1", 2.0)
    tiny_models.write_half_plus(base / "half" / "2", 3.0)
    write_echo(base / "echo" / "123")
    (base / "models.config").write_text(CONFIG.format(base=base), encoding="utf-8")
    (base / "monitoring.config").write_text("prometheus_config { enable: true }", encoding="utf-8")
    (base / "batching.config").write_text("max_batch_size { value: 4 }", encoding="utf-8")
    return base


@pytest.fixture(scope="module")
def rest(models: Path) -> Iterator[Rest]:
    port = free_port()
    with starting(
        rest_api_port=port,
        rest_api_enable_cors_support=True,
        allow_version_labels_for_unavailable_models=True,
        model_config_file=models / "models.config",
        monitoring_config_file=models / "monitoring.config",
    ) as server:
        assert server.port
        yield listening(port)


@pytest.fixture(scope="module")
def hasty(models: Path) -> Iterator[Rest]:
    """A server with little patience that batches by four."""
    port = free_port()
    with starting(
        rest_api_port=port,
        rest_api_timeout_in_ms=500,
        model_name="half",
        model_base_path=models / "half",
        enable_batching=True,
        batching_parameters_file=models / "batching.config",
    ) as server:
        assert server.port
        yield listening(port)


def listening(port: int) -> Rest:
    """The port, once it is open; it opens right after gRPC's."""

    def connects() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(connects, lambda: f"nothing listens on {port}")
    return Rest(port)


def test_predict_answers_rows_and_columns(rest: Rest) -> None:
    response = rest.post("/v1/models/half:predict", {"instances": [1.0, 5.0]})
    assert response.status_code == row("rest.row-values").rest_code
    assert response.text == '{\n    "predictions": [3.5, 5.5\n    ]\n}'
    response = rest.post("/v1/models/half/labels/stable:predict", {"inputs": [[1.0, 5.0]]})
    assert response.status_code == row("rest.column-value").rest_code
    assert response.json() == {"outputs": [[2.5, 4.5]]}
    response = rest.post("/V1/MODELS/half/versions/1:predict", {"instances": [1.0]})
    assert response.status_code == row("rest.route-predict").rest_code
    assert response.json() == {"predictions": [2.5]}


def test_predict_takes_and_answers_several_tensors_as_objects(rest: Rest) -> None:
    body: object = {"signature_name": "pair", "instances": [{"a": 1, "b": 0.5}, {"a": 2, "b": 1}]}
    response = rest.post("/v1/models/echo:predict", body)
    assert response.status_code == row("rest.row-objects").rest_code
    assert response.json() == {"predictions": [{"a": 1, "b": 0.5}, {"a": 2, "b": 1.0}]}
    body = {"signature_name": "pair", "inputs": {"a": 1, "b": [0.5]}}
    response = rest.post("/v1/models/echo:predict", body)
    assert response.status_code == row("rest.column-object").rest_code
    assert response.json() == {"outputs": {"a": 1, "b": [0.5]}}


@pytest.mark.parametrize(
    ("row_id", "dtype", "values"),
    [
        ("rest.dtype-float", np.float32, [0.1, -3.0, 3.4e38, 1e-45, float("inf")]),
        ("rest.dtype-double", np.float64, [0.1, 5e-324, 1.7976931348623157e308, float("-inf")]),
        ("rest.dtype-int8", np.int8, [-128, 127]),
        ("rest.dtype-int16", np.int16, [-(2**15), 2**15 - 1]),
        ("rest.dtype-int32", np.int32, [-(2**31), 2**31 - 1]),
        ("rest.dtype-uint8", np.uint8, [0, 255]),
        ("rest.dtype-uint32", np.uint32, [0, 2**32 - 1]),
        ("rest.dtype-int64", np.int64, [-(2**63), 2**63 - 1]),
        ("rest.dtype-uint64", np.uint64, [0, 2**64 - 1]),
        ("rest.dtype-bool", np.bool_, [True, False]),
    ],
)
def test_a_dtype_goes_through_the_model_and_back(
    rest: Rest, row_id: str, dtype: npt.DTypeLike, values: list[Any]
) -> None:
    array = np.array([values, values], dtype)
    name = np.dtype(dtype).name
    for key, answer in (("instances", "predictions"), ("inputs", "outputs")):
        body = {"signature_name": name, key: array.tolist()}
        response = rest.post("/v1/models/echo:predict", body)
        assert response.status_code == row(row_id).rest_code, response.text
        back = np.array(response.json()[answer], dtype)
        assert back.tobytes() == array.tobytes()


def test_bytes_go_in_as_base64_and_come_out_so_under_their_name(rest: Rest) -> None:
    assert row("rest.dtype-string").rest_code == 200
    data = [base64.b64encode(bytes(range(256))).decode(), "w6k="]
    body = {"signature_name": "string", "instances": [{"b64": text} for text in data]}
    response = rest.post("/v1/models/echo:predict", body)
    assert response.status_code == row("rest.bytes-in").rest_code
    assert row("rest.bytes-out").rest_code == 200
    predictions = json.loads(response.content.decode("utf-8", "replace"))["predictions"]
    assert [prediction["y_bytes"]["b64"] for prediction in predictions] == data
    assert predictions[1]["y"] == "é"


def test_numbers_that_are_not_finite_go_in_and_out_as_tokens(rest: Rest) -> None:
    assert row("rest.not-a-number")
    response = rest.post("/v1/models/half:predict", b'{"instances": [NaN, Infinity, -Infinity]}')
    assert "[NaN, Infinity, -Infinity\n" in response.text


def test_classify_and_regress_answer_results(rest: Rest) -> None:
    body: object = {"signature_name": "classify", "examples": [{"x": 0.25}]}
    response = rest.post("/v1/models/half:classify", body)
    assert response.status_code == row("rest.classify-results").rest_code
    assert response.json() == {"results": [[["cold", 0.75], ["warm", 0.25]]]}
    body = {"signature_name": "regress", "context": {"x": 1.0}, "examples": [{}, {"x": 5.0}]}
    response = rest.post("/v1/models/half:regress", body)
    assert response.status_code == row("rest.regress-results").rest_code
    assert response.json() == {"results": [3.5, 5.5]}


def test_a_status_names_every_version_by_label_too(rest: Rest) -> None:
    everything = rest.get("/v1/models/half")
    assert everything.status_code == row("rest.route-status").rest_code
    states = everything.json()["model_version_status"]
    assert {(entry["version"], entry["state"]) for entry in states} == {
        ("1", "AVAILABLE"),
        ("2", "AVAILABLE"),
    }
    by_label = rest.get("/v1/models/half/labels/stable")
    assert by_label.status_code == row("rest.status-by-label").rest_code
    assert by_label.json() == everything.json()
    by_version = rest.get("/v1/models/echo/versions/123")
    assert by_version.status_code == row("rest.status-json").rest_code
    assert "".join(by_version.text.split()) == row("rest.status-json").rest_text


def test_metadata_shows_the_signatures(rest: Rest) -> None:
    response = rest.get("/v1/models/echo/metadata")
    assert response.status_code == row("rest.metadata-json").rest_code
    answer = response.json()
    assert answer["model_spec"] == {"name": "echo", "signature_name": "", "version": "123"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["float32"]
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [], "unknown_rank": True},
        "name": "float32_x:0",
    }
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_unknown_models_versions_and_labels_are_named(rest: Rest) -> None:
    body = {"instances": [1.0]}
    error = rest.error("/v1/models/nobody:predict", body)
    row("errors.unknown-model").check_rest(*error, NAME="nobody")
    error = rest.error("/v1/models/half/versions/7:predict", body)
    row("errors.unknown-version").check_rest(*error, NAME="half")
    error = rest.error("/v1/models/half/labels/canary:predict", body)
    row("errors.unknown-label").check_rest(*error, LABEL="canary")
    error = error_of(rest.get("/v1/models/nobody"))
    row("errors.status-unknown-model").check_rest(*error, NAME="nobody")
    error = error_of(rest.get("/v1/models/half/versions/7"))
    row("errors.status-unknown-version").check_rest(*error, NAME="half")
    assert error_of(rest.get("/v1/models/nobody/metadata"))[0] == 404


def test_missing_signatures_are_named(rest: Rest) -> None:
    error = rest.error("/v1/models/half:predict", {"signature_name": "nothing", "instances": [1]})
    row("errors.missing-signature-predict").check_rest(*error, SIG="nothing")
    body = {"signature_name": "nothing", "examples": [{"x": 1.0}]}
    error = rest.error("/v1/models/half:classify", body)
    row("errors.missing-signature-classify").check_rest(*error, SIG="nothing")
    error = rest.error("/v1/models/half:regress", body)
    row("errors.missing-signature-regress").check_rest(*error, SIG="nothing")


def test_wrong_inputs_are_refused(rest: Rest) -> None:
    error = rest.error("/v1/models/half:predict", {"instances": ["a"]})
    row("rest.element-error").check_rest(*error)
    error = rest.error("/v1/models/half:predict", {"inputs": ["a"]})
    row("errors.wrong-dtype").check_rest(*error)
    body: object = {"signature_name": "matrix", "instances": [[1.0, 2.0, 3.0]]}
    row("errors.wrong-shape").check_rest(*rest.error("/v1/models/half:predict", body))
    status, _ = rest.error("/v1/models/half:predict", {"inputs": {}})
    assert status == row("errors.wrong-number-of-inputs").rest_code
    status, _ = rest.error("/v1/models/half:predict", {"inputs": {"y": 1.0}})
    assert status == row("errors.wrong-input-name").rest_code
    status, _ = rest.error("/v1/models/half:classify", {"examples": []})
    assert status == row("errors.empty-input").rest_code
    body = {"signature_name": "float16", "inputs": [1.0]}
    row("rest.dtype-other").check_rest(*rest.error("/v1/models/echo:predict", body))


def test_a_tensor_of_too_many_dimensions_is_refused_as_the_runtime_refuses_it(rest: Rest) -> None:
    status, text = rest.error(
        "/v1/models/half:predict", b'{"inputs": ' + b"[" * 300 + b"]" * 300 + b"}"
    )
    assert (status, text) == (400, "tensor parsing error: x")


def test_outputs_that_do_not_fit_into_rows_are_refused(rest: Rest) -> None:
    body = {"signature_name": "scalar", "instances": [1.0, 2.0]}
    error = rest.error("/v1/models/half:predict", body)
    row("rest.output-no-shape").check_rest(*error, T="y")


def test_bodies_that_are_no_json_are_refused(rest: Rest) -> None:
    row("rest.parse-empty").check_rest(*rest.error("/v1/models/half:predict", b""))
    error = rest.error("/v1/models/half:predict", b'{"instances": [x]}')
    row("rest.parse-invalid-value").check_rest(*error, N=15)


def test_other_paths_get_a_page_or_a_malformed_request(rest: Rest) -> None:
    for path in ("/", "/healthz"):
        response = rest.get(path)
        assert response.status_code == row("rest.route-outside-v1").rest_code
        assert response.headers["Content-Type"] == "text/html"
    row("rest.missing-model-name").check_rest(*error_of(rest.get("/v1/models")))
    error = rest.error("/v1/models/half:explain", {})
    row("rest.malformed-request").check_rest(*error)


def test_other_origins_may_ask_where_that_is_on(rest: Rest) -> None:
    url = f"{rest.base}/v1/models/half:predict"
    response = rest.session.options(url, headers={"Origin": "https://a"}, timeout=SECONDS)
    assert response.status_code == row("rest.options-with-origin").rest_code
    assert row("rest.cors-headers").more["headers"].items() <= response.headers.items()
    response = rest.session.options(url, timeout=SECONDS)
    row("rest.options-without-origin").check_rest(*error_of(response))


def test_a_zipped_request_is_read_and_its_reply_is_plain(rest: Rest) -> None:
    body = gzip.compress(json.dumps({"instances": [1.0]}).encode())
    response = rest.post("/v1/models/half:predict", body, headers={"Content-Encoding": "gzip"})
    assert response.status_code == row("rest.gzip-request").rest_code
    assert response.json() == {"predictions": [3.5]}
    assert row("rest.plain-response").rest_code == 200
    assert "Content-Encoding" not in response.headers


def test_the_metrics_count_what_rest_answered(rest: Rest) -> None:
    rest.post("/v1/models/half:predict", {"instances": [1.0]})
    rest.post("/v1/models/half:regress", {"signature_name": "regress", "examples": [{"x": 1.0}]})
    rest.error("/v1/models/half/versions/7:predict", {"instances": [1.0]})
    response = rest.get(str(row("metrics.default-path").more["default"]))
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain"
    counted = {line.rpartition(" ")[0] for line in response.text.splitlines() if line[-2:] != " 0"}
    assert counted >= {
        ':tensorflow:serving:request_count{model_name="half",status="OK"}',
        ':tensorflow:serving:request_count{model_name="half",status="NOT_FOUND"}',
        ':tensorflow:serving:request_latency_count{model_name="half",API="predict",entrypoint="REST"}',
        ':tensorflow:serving:runtime_latency_count{model_name="half",API="Predict",runtime="TF1"}',
        ':tensorflow:serving:runtime_latency_count{model_name="half",API="Regress",runtime="TF1"}',
    }


def test_a_run_that_takes_too_long_is_ended(hasty: Rest) -> None:
    body = {"signature_name": "wait", "instances": [1.0]}
    status, text = hasty.error("/v1/models/half:predict", body)
    assert (status, text) == (504, "Timed out waiting for notification")


def test_a_batch_that_is_too_large_is_refused(hasty: Rest) -> None:
    error = hasty.error("/v1/models/half:predict", {"instances": [1.0] * 5})
    row("errors.batch-too-large").check_rest(*error, N=5, M=4)
