"""The REST routes against the reference, over a core that answers from memory."""

import gzip
import json
from typing import Any

import pytest
from grpc import StatusCode

from model.server.metrics import Metrics
from model.server.rest_api import Reply, Request, RestApi
from tests.support import serving_reference as reference
from tests.support.fake_core import FakeCore, RefusingCore
from tests.support.serving_reference import row

ROWS = b'{"instances": [1.0, 2.5]}'
EXAMPLES = b'{"examples": [{"x": 1.0}]}'
PREDICT = "/v1/models/hat:predict"
CODES = {
    "rest.code-ok",
    "rest.code-cancelled",
    "rest.code-unknown",
    "rest.code-invalid-argument",
    "rest.code-deadline-exceeded",
    "rest.code-not-found",
    "rest.code-already-exists",
    "rest.code-permission-denied",
    "rest.code-resource-exhausted",
    "rest.code-failed-precondition",
    "rest.code-aborted",
    "rest.code-out-of-range",
    "rest.code-unimplemented",
    "rest.code-internal",
    "rest.code-unavailable",
    "rest.code-data-loss",
    "rest.code-unauthenticated",
}


def ask(core: FakeCore, method: str, target: str, body: bytes = b"", **more: Any) -> Reply:
    headers = {key: more.pop(key) for key in ("content_encoding", "origin") if key in more}
    return RestApi(core, Metrics(), **more).answer(Request(method, target, body, **headers))


def error_of(reply: Reply) -> str:
    message = json.loads(reply.body)["error"]
    assert isinstance(message, str)
    return message


@pytest.mark.parametrize(
    ("row_id", "target", "name", "version", "label"),
    [
        ("rest.route-predict", PREDICT, "hat", 0, ""),
        ("rest.route-predict", "/V1/Models/hat:predict", "hat", 0, ""),
        ("rest.route-predict", "/v1/models/hat/versions/0042:predict", "hat", 42, ""),
        ("rest.route-predict", "/v1/models/hat/LABELS/stable:predict", "hat", 0, "stable"),
        ("rest.route-url-decoding", "/v1/models/h%41t%3Ax:predict", "hAt:x", 0, ""),
        ("rest.route-url-decoding", "/v1/models/a+b/labels/%C3%A9:predict", "a+b", 0, "é"),
    ],
)
def test_a_predict_route_names_model_version_and_label(
    row_id: str, target: str, name: str, version: int, label: str
) -> None:
    core = FakeCore()
    reply = ask(core, "POST", target, ROWS)
    assert reply.status == row(row_id).rest_code
    assert json.loads(reply.body) == {"predictions": [1.0, 2.5]}
    spec = core.asked[0].model_spec
    assert (spec.name, spec.version.value, spec.version_label) == (name, version, label)


def test_classify_and_regress_have_routes_of_their_own() -> None:
    reply = ask(FakeCore(), "POST", "/v1/models/hat:classify", EXAMPLES)
    assert reply.status == row("rest.route-classify").rest_code
    assert json.loads(reply.body) == {"results": [[["hat", 0.5]]]}
    reply = ask(FakeCore(), "POST", "/v1/models/hat:regress", EXAMPLES)
    assert reply.status == row("rest.route-regress").rest_code
    assert json.loads(reply.body) == {"results": [2.0]}


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/models/hat"),
        ("POST", "/v1/models/hat:multiInference"),
        ("POST", "/v1/models/hat:PREDICT"),
        ("POST", "/v1/models/hat:predict?x=1"),
        ("POST", "/v1/models/hat:reload"),
        ("POST", "/v1/models/hat/versions/one:predict"),
        ("GET", PREDICT),
        ("GET", "/v1/models/hat/"),
        ("PUT", PREDICT),
        ("DELETE", "/v1/models/hat"),
        ("HEAD", "/v1/models/hat"),
    ],
)
def test_what_matches_no_route_is_malformed(method: str, target: str) -> None:
    assert row("rest.no-multi-inference").rest_code == 400
    reply = ask(FakeCore(), method, target, ROWS)
    message = error_of(reply)
    assert message == f"Malformed request: {method} {target}"
    if method == "POST":
        row("rest.malformed-request").check_rest(reply.status, message)
    assert reply.status == 400


@pytest.mark.parametrize("target", ["/", "/healthz", "/v1", "/v2/models", "/monitoring"])
def test_outside_of_v1_there_is_a_bare_404_page(target: str) -> None:
    metrics = Metrics()
    reply = RestApi(FakeCore(), metrics).answer(Request("GET", target))
    assert reply.status == row("rest.route-outside-v1").rest_code
    assert reply.headers == {"Content-Type": "text/html"}
    assert b"<H1>Not Found</H1>" in reply.body
    assert "request_count{" not in metrics.text()


def test_a_status_is_protobuf_json() -> None:
    entry = row("rest.status-json")
    reply = ask(FakeCore(), "GET", "/v1/models/hat")
    assert reply.status == row("rest.route-status").rest_code == entry.rest_code
    assert "".join(reply.body.decode().split()) == entry.rest_text
    assert reply.body.startswith(b'{\n "model_version_status": [\n  {\n   "version": "123",\n')


@pytest.mark.parametrize(
    ("target", "version", "label"),
    [
        ("/v1/models/hat/versions/7", 7, ""),
        ("/v1/models/hat/labels/stable", 0, "stable"),
        ("/v1/models/hat/METADATA", 0, ""),
    ],
)
def test_a_status_may_name_a_version_or_a_label(target: str, version: int, label: str) -> None:
    core = FakeCore()
    assert ask(core, "GET", target).status == 200
    spec = core.asked[0].model_spec
    assert (spec.version.value, spec.version_label) == (version, label)


def test_metadata_is_protobuf_json() -> None:
    entry = row("rest.metadata-json")
    reply = ask(FakeCore(), "GET", "/v1/models/hat/versions/123/metadata")
    assert reply.status == row("rest.route-metadata").rest_code == entry.rest_code
    compact = "".join(reply.body.decode().split())
    outputs = '"y":{"dtype":"DT_FLOAT","tensor_shape":{"dim":[],"unknown_rank":true},"name":"y:0"}'
    expected = (
        (entry.rest_text or "")
        .replace('"name":N', '"name":"hat"')
        .replace("SIG", '"serving_default"')
        .replace("K:", '"x":')
        .replace('"outputs":{..}', f'"outputs":{{{outputs}}}')
        .replace('"method_name":".."', '"method_name":"tensorflow/serving/predict"')
    )
    assert compact == expected
    assert list(json.loads(reply.body)) == ["model_spec", "metadata"]


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/versions/1"])
def test_a_status_without_a_model_is_refused(target: str) -> None:
    reply = ask(FakeCore(), "GET", target)
    row("rest.missing-model-name").check_rest(reply.status, error_of(reply))


def test_a_version_that_is_no_int64_is_refused() -> None:
    for digits in ("9223372036854775808", "9" * 5000):
        reply = ask(FakeCore(), "POST", f"/v1/models/hat/versions/{digits}:predict", ROWS)
        assert reply.status == 400
        assert error_of(reply) == f"Failed to convert version: {digits} to numeric."


def test_a_signature_that_does_not_exist_is_refused_before_predict() -> None:
    core = FakeCore()
    reply = ask(core, "POST", PREDICT, b'{"signature_name": "other", "instances": [1]}')
    row("errors.missing-signature-predict").check_rest(reply.status, error_of(reply), SIG="other")
    assert core.asked == []


def test_the_table_of_codes_is_all_here() -> None:
    assert {entry.id for entry in reference.section("rest") if "code-" in entry.id} == CODES


@pytest.mark.parametrize("row_id", sorted(CODES - {"rest.code-ok"}))
def test_a_code_of_the_core_has_its_http_status(row_id: str) -> None:
    entry = row(row_id)
    core = RefusingCore.with_code(StatusCode[str(entry.grpc_code)], "it did not work")
    reply = ask(core, "POST", PREDICT, ROWS)
    assert reply.status == entry.rest_code
    assert reply.body == b'{\n    "error": "it did not work"\n}'


def test_success_is_200() -> None:
    assert ask(FakeCore(), "POST", PREDICT, ROWS).status == row("rest.code-ok").rest_code


def test_errors_are_json_indented_by_four_spaces() -> None:
    expected = str(row("rest.error-shape").rest_text).replace("MESSAGE", 'a \\"b\\"')
    reply = ask(RefusingCore.with_code(StatusCode.INTERNAL, 'a "b"'), "POST", PREDICT, ROWS)
    assert reply.body.decode() == expected


def test_replies_and_errors_are_json_by_their_header() -> None:
    expected = row("rest.content-type").more["headers"]
    assert ask(FakeCore(), "POST", PREDICT, ROWS).headers == expected
    assert ask(FakeCore(), "POST", PREDICT, b"").headers == expected
    assert ask(FakeCore(), "GET", "/v1/models/hat").headers == expected


def test_an_error_that_is_not_ours_is_a_fixed_sentence(caplog: pytest.LogCaptureFixture) -> None:
    reply = ask(RefusingCore(RuntimeError("secret")), "POST", PREDICT, ROWS)
    assert reply.status == 500
    assert error_of(reply) == "Internal error: see the server's log."
    assert "secret" in caplog.text


def test_options_want_an_origin() -> None:
    reply = ask(FakeCore(), "OPTIONS", PREDICT, origin="https://example.com")
    assert reply.status == row("rest.options-with-origin").rest_code
    assert reply.body == b""
    reply = ask(FakeCore(), "OPTIONS", PREDICT)
    row("rest.options-without-origin").check_rest(reply.status, error_of(reply))


def test_other_origins_may_read_only_where_that_is_on() -> None:
    expected = row("rest.cors-headers").more["headers"]
    for method, body, origin in (
        ("OPTIONS", b"", "http://a"),
        ("POST", ROWS, ""),
        ("POST", b"", ""),
    ):
        reply = ask(FakeCore(), method, PREDICT, body, origin=origin, cors=True)
        assert expected.items() <= reply.headers.items()
        reply = ask(FakeCore(), method, PREDICT, body, origin=origin)
        assert not set(expected) & set(reply.headers)


def test_a_gzip_body_is_read_and_a_damaged_one_is_empty() -> None:
    reply = ask(FakeCore(), "POST", PREDICT, gzip.compress(ROWS), content_encoding="gzip")
    assert reply.status == row("rest.gzip-request").rest_code
    assert row("rest.plain-response")
    assert json.loads(reply.body) == {"predictions": [1.0, 2.5]}
    assert "Content-Encoding" not in reply.headers
    too_large = gzip.compress(bytes(101 * 1024 * 1024), compresslevel=1)
    for body in (ROWS, gzip.compress(ROWS)[:-9], too_large):
        reply = ask(FakeCore(), "POST", PREDICT, body, content_encoding="gzip")
        row("rest.parse-empty").check_rest(reply.status, error_of(reply))


def test_a_model_may_run_for_the_time_that_is_set() -> None:
    for given, expected in ((1.5, 1.5), (0, None), (None, None)):
        core = FakeCore()
        ask(core, "POST", PREDICT, ROWS, timeout_seconds=given)
        ask(core, "POST", "/v1/models/hat:classify", EXAMPLES, timeout_seconds=given)
        ask(core, "POST", "/v1/models/hat:regress", EXAMPLES, timeout_seconds=given)
        assert core.timeouts == [expected] * 3


def test_requests_are_counted_by_model_and_code_and_successes_timed() -> None:
    metrics = Metrics()
    api = RestApi(FakeCore(), metrics)
    for method, target, body in (
        ("POST", PREDICT, ROWS),
        ("POST", PREDICT, b"x"),
        ("GET", "/v1/models/hat", b""),
        ("POST", "/v1/no", b""),
    ):
        api.answer(Request(method, target, body))
    text = metrics.text()
    count = ":tensorflow:serving:request_count"
    assert f'{count}{{model_name="hat",status="OK"}} 2\n' in text
    assert f'{count}{{model_name="hat",status="INVALID_ARGUMENT"}} 1\n' in text
    assert f'{count}{{model_name="",status="INVALID_ARGUMENT"}} 1\n' in text
    latency = ':tensorflow:serving:request_latency_count{model_name="hat",API='
    assert f'{latency}"predict",entrypoint="REST"}} 1\n' in text
    assert f'{latency}"",entrypoint="REST"}} 1\n' in text


def test_the_metrics_are_at_their_path_and_nowhere_else() -> None:
    path = str(row("metrics.default-path").more["default"])
    reply = ask(FakeCore(), "GET", path, monitoring_path=path)
    assert (reply.status, reply.headers) == (200, {"Content-Type": "text/plain"})
    assert reply.body.startswith(b"# TYPE :tensorflow:")
    reply = ask(FakeCore(), "GET", path + "?a=1", monitoring_path=path)
    assert reply.status == 400
    assert reply.body.decode() == f"Unexpected path: {path}?a=1. Should be {path}"
    assert ask(FakeCore(), "GET", path).status == 404
