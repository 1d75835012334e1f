"""`POST /predict` of the real process: every form of body, and every row of bad input.

The model server is a stub on a real gRPC port, pictures come from a host on loopback.
"""

import base64
import io
import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import pytest
from PIL import Image

from tests.support.picture_host import PictureHost, picture_host
from tests.support.processes import (
    Answer,
    Gateway,
    free_port,
    gateway,
    listens,
    start,
    wait_until,
)
from tests.support.stub_serving import (
    CLOTHES,
    PREDICT,
    Failure,
    StubModel,
    StubServing,
    image_contract,
)

SCORES = [index / 8 - 0.5 for index in range(10)]


def picture(size: tuple[int, int] = (400, 533), file_format: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(file, file_format)
    return file.getvalue()


JPEG = picture()
PNG = picture((64, 64), "PNG")


class Running(NamedTuple):
    gateway: Gateway
    host: PictureHost
    stub: StubServing


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    pictures = {
        "pants": JPEG,
        "png": PNG,
        "page": b"<!doctype html><title>Not a picture</title>",
        "cut": JPEG[: len(JPEG) // 2],
        "wide": picture((2000, 600)),
        "heavy": PNG + b"\x00" * 300_000,
        "empty": b"",
    }
    stub = StubServing(versions={1: StubModel(), 2: StubModel()}, labels={"stable": 1})
    limits: dict[str, Any] = {
        "max_image_bytes": 300_000,
        "max_image_pixels": 1_000_000,
        "fetch_timeout": 1,
    }
    with stub, picture_host(pictures) as host:
        limits |= {"max_images": 4, "max_json_bytes": 4096, "request_timeout": 5}
        with gateway(stub.address, **limits, **host.settings) as started:
            yield Running(started, host, stub)


def check_problem(answer: Answer, status: int, slug: str) -> str:
    """The detail of an answer that must be a problem of that sort."""
    document = answer.json
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, document["type"]) == (status, f"urn:tensorgate:problem:{slug}")
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["error"] == document["detail"]
    assert "Traceback" not in answer.body.decode()
    detail = document["detail"]
    assert isinstance(detail, str)
    assert detail.endswith((".", "…"))
    return detail


def test_a_url_answers_every_label_with_its_score_in_order(running: Running) -> None:
    answer = running.gateway.predict({"url": running.host.url("pants")})
    expected = json.dumps(dict(zip(CLOTHES, SCORES, strict=True))).encode()
    assert (answer.status, answer.body.strip()) == (200, expected)
    assert answer.headers["x-model-name"] == "clothing-model"
    assert answer.headers["x-model-version"] == "2"
    assert answer.headers["x-request-id"]
    stages = [entry.partition(";")[0] for entry in answer.headers["server-timing"].split(", ")]
    assert stages == ["queue", "fetch", "decode", "predict"]


def test_a_redirect_is_followed(running: Running) -> None:
    answer = running.gateway.predict({"url": running.host.url("redirect/redirect/redirect/pants")})
    assert answer.status == 200
    assert answer.json["t-shirt"] == SCORES[9]


def test_every_form_of_body_answers_the_same(running: Running) -> None:
    form = (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        + PNG
        + b"\r\n--xyz--\r\n"
    )
    encoded = base64.b64encode(PNG).decode()
    ask = running.gateway.ask
    answers = [
        running.gateway.predict({"url": running.host.url("png"), "top": 2}),
        running.gateway.predict({"image": encoded, "top": 2}),
        running.gateway.predict({"image": f"data:image/png;base64,{encoded}", "top": 2}),
        ask("POST", "/predict?top=2", PNG, content_type="image/png"),
        ask("POST", "/predict?top=2", form, content_type="multipart/form-data; boundary=xyz"),
    ]
    assert {answer.body for answer in answers} == {b'{"t-shirt": 0.625, "skirt": 0.5}\n'}


def test_a_list_is_answered_in_order_each_with_scores_or_its_own_error(running: Running) -> None:
    names = ["pants", "status/404", "page", "png"]
    urls = [running.host.url(name) for name in names]
    answer = running.gateway.predict({"urls": urls, "top": 1})
    first, second, third, fourth = answer.json["predictions"]
    assert answer.status == 200
    assert first == fourth == {"scores": {"t-shirt": 0.625}}
    assert (second["error"]["status"], second["error"]["origin_status"]) == (502, 404)
    assert third["error"]["type"] == "urn:tensorgate:problem:undecodable-image"


def test_a_list_with_a_silent_host_still_answers_the_others(running: Running) -> None:
    urls = [running.host.url(name) for name in ("pants", "silent", "silent", "png")]
    predictions = running.gateway.predict({"urls": urls}).json["predictions"]
    assert ["scores" in entry for entry in predictions] == [True, False, False, True]
    assert {entry["error"]["status"] for entry in predictions[1:3]} == {504}


def test_a_version_and_a_label_can_be_named(running: Running) -> None:
    for fields in ({"version": 1}, {"label": "stable"}):
        answer = running.gateway.predict({"url": running.host.url("png"), **fields})
        assert answer.headers["x-model-version"] == "1"


def test_probabilities_sum_to_one(running: Running) -> None:
    answer = running.gateway.predict({"url": running.host.url("png"), "probabilities": True})
    assert sum(answer.json.values()) == pytest.approx(1, abs=1e-12)
    assert list(answer.json) == list(CLOTHES)


WRONG_JSON = {
    "not JSON": b"url=https://example.com/a.jpg",
    "cut-off JSON": b'{"url": "https://exa',
    "nothing": b"",
    "a byte order mark": b'\xef\xbb\xbf{"url": "a"}',
    "UTF-16": '{"url": "a"}'.encode("utf-16"),
    "a list": b"[]",
    "deep nesting": b"[" * 4000,
    "a duplicate": b'{"url": "a", "url": "b"}',
    "NaN": b'{"url": NaN}',
    "1e999": b'{"top": 1e999, "url": "a"}',
    "a long integer": b'{"url": "a", "version": ' + b"9" * 4000 + b"}",
    "a lone surrogate": b'{"url": "\\ud800"}',
    "no source": b"{}",
    "several sources": b'{"url": "a", "urls": ["b"]}',
    "an unknown field": b'{"url": "a", "picture": "b"}',
    "a number for the URL": b'{"url": 7}',
    "no URLs": b'{"urls": []}',
    "too many URLs": b'{"urls": ["a", "b", "c", "d", "e"]}',
    "broken base64": b'{"image": "%%%"}',
    "top of nothing": b'{"url": "a", "top": 0}',
}


@pytest.mark.parametrize("body", WRONG_JSON.values(), ids=WRONG_JSON.keys())
def test_malformed_json_answers_400(running: Running, body: bytes) -> None:
    check_problem(running.gateway.ask("POST", "/predict", body), 400, "invalid-request")


def test_json_over_its_limit_answers_413(running: Running) -> None:
    body = b'{"url": "' + b"a" * 5000 + b'"}'
    assert running.gateway.ask("POST", "/predict", body).status == 413


def test_an_integer_of_5000_digits_answers_400(running: Running) -> None:
    picture_text = base64.b64encode(PNG)
    body = b'{"version": ' + b"9" * 4050 + b', "image": "' + picture_text + b'"}'
    check_problem(running.gateway.ask("POST", "/predict", body), 400, "invalid-request")


@pytest.mark.parametrize(
    ("name", "status", "slug"),
    [
        ("page", 422, "undecodable-image"),
        ("cut", 422, "undecodable-image"),
        ("wide", 422, "image-too-large"),
        ("heavy", 422, "image-too-large"),
        ("empty", 422, "undecodable-image"),
        ("status/404", 502, "origin-failed"),
        ("status/500", 502, "origin-failed"),
        ("silent", 504, "origin-timeout"),
    ],
)
def test_what_is_wrong_with_a_picture_behind_a_url_is_said(
    running: Running, name: str, status: int, slug: str
) -> None:
    check_problem(running.gateway.predict({"url": running.host.url(name)}), status, slug)


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        (b"<html>", "undecodable-image"),
        (JPEG[: len(JPEG) // 2], "undecodable-image"),
        (picture((2000, 600)), "image-too-large"),
        (PNG + b"\x00" * 300_000, "image-too-large"),
    ],
    ids=["not a picture", "cut off", "too many pixels", "too many bytes"],
)
def test_what_is_wrong_with_an_upload_is_said(running: Running, data: bytes, slug: str) -> None:
    answer = running.gateway.ask("POST", "/predict", data, content_type="image/png")
    assert answer.status in (413, 422)
    if answer.status == 422:
        check_problem(answer, 422, slug)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.jpg",
        "http://10.0.0.1/a.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.jpg",
        "http://localhost/a.jpg",
    ],
)
def test_an_address_that_is_not_allowed_is_refused(running: Running, url: str) -> None:
    answer = running.gateway.predict({"url": url})
    check_problem(answer, 422, "url-not-allowed")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/a", "not a url", "//a/b"])
def test_a_url_of_another_sort_is_refused(running: Running, url: str) -> None:
    answer = running.gateway.predict({"url": url})
    assert answer.status in (400, 422)
    check_problem(answer, answer.status, answer.json["type"].rpartition(":")[2])


@pytest.mark.parametrize(
    ("fields", "part"),
    [({"model": "shoes"}, "clothing-model"), ({"version": 9}, "9"), ({"label": "blue"}, "blue")],
    ids=["model", "version", "label"],
)
def test_an_unknown_model_version_or_label_answers_404(
    running: Running, fields: dict[str, object], part: str
) -> None:
    answer = running.gateway.predict({"url": running.host.url("png"), **fields})
    assert part in check_problem(answer, 404, "model-not-found")


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/predict", 405, "method-not-allowed"),
        ("DELETE", "/predict", 405, "method-not-allowed"),
    ],
)
def test_an_unknown_path_or_method_has_the_one_shape(
    running: Running, method: str, path: str, status: int, slug: str
) -> None:
    answer = running.gateway.ask(method, path)
    check_problem(answer, status, slug)
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "video/mp4"])
def test_another_content_type_answers_415(running: Running, media: str) -> None:
    answer = running.gateway.ask("POST", "/predict", b"abc", content_type=media)
    check_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("code", "details", "status", "slug"),
    [
        (grpc.StatusCode.UNAVAILABLE, "", 503, "model-unavailable"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", 503, "model-overloaded"),
        (grpc.StatusCode.INTERNAL, "", 502, "model-failed"),
        (grpc.StatusCode.INVALID_ARGUMENT, "secret shape", 500, "model-rejected-input"),
    ],
)
def test_failures_of_the_model_server_have_their_status(
    running: Running, code: grpc.StatusCode, details: str, status: int, slug: str
) -> None:
    running.stub.failure = Failure(code, details, methods=frozenset({PREDICT}))
    try:
        answer = running.gateway.predict({"url": running.host.url("png")})
    finally:
        running.stub.failure = None
    assert "secret" not in check_problem(answer, status, slug)
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_model_server_that_is_too_slow_answers_504() -> None:
    slow = StubServing()
    with slow, gateway(slow.address, request_timeout=1) as started:
        slow.delay = 3.0
        answer = started.ask("POST", "/predict", PNG, content_type="image/png")
        check_problem(answer, 504, "deadline-exceeded")


def test_many_bad_requests_at_once_leave_the_gateway_well(running: Running) -> None:
    bodies = [*WRONG_JSON.values()] * 5
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda b: running.gateway.ask("POST", "/predict", b), bodies))
    assert {answer.status for answer in answers} == {400}
    assert running.gateway.predict({"url": running.host.url("pants")}).status == 200
    assert running.gateway.process.alive()


def test_a_model_server_that_goes_and_comes_back() -> None:
    stub = StubServing(port=free_port())
    upload = {"image": base64.b64encode(PNG).decode(), "top": 1}
    with gateway(stub.address, wait=False) as started:
        not_ready = started.ask("GET", "/readyz")
        check_problem(not_ready, 503, "not-ready")
        assert not_ready.json["missing"][0]["model"] == "clothing-model"
        assert started.ask("GET", "/healthz").status == 200
        check_problem(started.predict(upload), 503, "model-unavailable")

        stub.start()
        wait_until(started.ready, "ready once the model server is there")
        assert started.predict(upload).status == 200

        stub.stop()
        wait_until(lambda: bool(started.ask("GET", "/readyz").json["missing"]), "the loss is seen")
        assert started.ask("GET", "/readyz").status == 200
        check_problem(started.predict(upload), 503, "model-unavailable")

        (worker,) = started.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: started.workers() not in ([], [worker]), "another worker")
        assert started.ask("GET", "/readyz").status == 200

        stub.start()
        wait_until(lambda: started.predict(upload).status == 200, "predictions come back")
        wait_until(lambda: not started.ask("GET", "/readyz").json["missing"], "nothing is missing")
        stub.stop()


def test_a_model_server_that_hangs_or_is_killed_costs_no_more_than_the_deadline() -> None:
    port = free_port()
    upload = {"image": base64.b64encode(PNG).decode(), "top": 1}
    arguments = ("tests.support.stub_serving", "--port", str(port))
    with start(*arguments, venv="test") as stub:
        wait_until(lambda: listens(("127.0.0.1", port)), "the stub listens")
        with gateway(("127.0.0.1", port), request_timeout=1) as started:
            stub.popen.send_signal(signal.SIGSTOP)
            try:
                with ThreadPoolExecutor(4) as callers:
                    answers = list(callers.map(lambda _: started.predict(upload), range(4)))
                assert {answer.status for answer in answers} == {504}, "one fewer than open it"
                assert started.ask("GET", "/healthz").status == 200
                assert started.ready()
            finally:
                stub.popen.send_signal(signal.SIGCONT)
            wait_until(lambda: started.predict(upload).status == 200, "predictions come back")
            stub.kill()
            answer = started.predict(upload)
            assert answer.status in (503, 504)
            assert "retry-after" in answer.headers or answer.status == 504


def test_no_prediction_is_lost_when_one_of_two_model_servers_is_killed() -> None:
    upload = {"image": base64.b64encode(PNG).decode(), "top": 1}
    servers = [("127.0.0.1", free_port()) for _ in range(2)]
    arguments = [("tests.support.stub_serving", "--port", str(port)) for _, port in servers]
    one, other = (start(*each, "--threads", "4", venv="test") for each in arguments)
    with one as victim, other, gateway(*servers, wait=False) as started:
        wait_until(lambda: all(map(listens, servers)), "both stubs listen")
        wait_until(started.ready, "the gateway is ready")
        with ThreadPoolExecutor(4) as callers:
            asked = [callers.submit(started.predict, upload) for _ in range(300)]
            wait_until(asked[100].done, "a third is answered")
            victim.kill()
            statuses = {future.result(30).status for future in asked}
        assert statuses == {200}


def test_predictions_are_counted_by_model_version_and_outcome_across_workers() -> None:
    upload = {"image": base64.b64encode(PNG).decode()}
    with StubServing() as stub, gateway(stub.address, workers=2) as started:
        for _ in range(12):
            assert started.predict(upload).status == 200
        assert started.predict({"image": "AAAA"}).status == 422
        page = started.metrics()
    version = 'model="clothing-model",outcome="ok",version="1"'
    assert f"tensorgate_requests_total{{{version}}} 12.0" in page
    failed = 'model="clothing-model",outcome="refused",version=""'
    assert f"tensorgate_requests_total{{{failed}}} 1.0" in page
    stages = set(re.findall(r'tensorgate_stage_seconds_count{[^}]*stage="(\w+)"', page))
    assert stages == {"queue", "decode", "predict"}


def test_a_contract_that_does_not_fit_keeps_the_gateway_from_being_ready() -> None:
    unfit = StubModel(contract=image_contract(["a", "b"]))
    with StubServing(versions={1: unfit}) as stub, gateway(stub.address, wait=False) as started:
        wait_until(
            lambda: "labels" in started.ask("GET", "/readyz").json["detail"], "the reason is said"
        )
        reason = started.ask("GET", "/readyz").json["missing"][0]["reason"]
        assert "2 labels" in reason
        assert "10" in reason


def test_a_later_contract_that_does_not_fit_answers_503_and_the_gateway_stays() -> None:
    with StubServing() as stub, gateway(stub.address) as started:
        stub.versions[2] = StubModel(contract=image_contract(["a", "b"]))
        upload = {"image": base64.b64encode(PNG).decode()}
        wait_until(lambda: started.predict(upload).status == 503, "the new version is met")
        detail = check_problem(started.predict(upload), 503, "contract-mismatch")
        assert "2 labels" in detail
        assert "10" in detail
        wait_until(lambda: "2 labels" in started.ask("GET", "/readyz").body.decode(), "it is said")
        assert started.ready()
        assert started.predict({**upload, "version": 1}).status == 200


def test_all_workers_answer_alike() -> None:
    with StubServing() as stub, gateway(stub.address, workers=2, wait=False) as started:
        upload = {"image": base64.b64encode(PNG).decode(), "top": 1}
        wait_until(lambda: all(started.ready() for _ in range(8)), "every worker is ready")
        assert {started.predict(upload).body for _ in range(8)} == {b'{"t-shirt": 0.625}\n'}
