"""Requests made to be misread, sent to the real process: none reaches the model server."""

import gzip
import json
import math
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from PIL import Image

from tests.support.pictures import saved
from tests.support.processes import Gateway, gateway
from tests.support.server_process import Caller, Response, assert_problem, post
from tests.support.stub_serving import CLOTHES, PREDICT, StubModel, StubServing

MAX_JSON = 300_000
PNG = saved(Image.new("RGB", (8, 8)), "PNG")
JSON = "application/json"
SOUND = b'{"url": "http://192.0.2.1/a.jpg"}'
"""Refused by its address, 422, once it has been read."""


class Running(NamedTuple):
    gateway: Gateway
    stub: StubServing

    def ask(self, request: bytes) -> Response:
        with Caller(self.gateway.address, timeout=7) as caller:
            return caller.ask(request, head=request.startswith(b"HEAD"))


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    unsound = StubModel(scores=(math.nan,) * len(CLOTHES))
    endless = StubModel(scores=(math.inf,) * len(CLOTHES))
    versions = {1: unsound, 2: endless, 3: StubModel()}
    with (
        StubServing(versions=versions) as stub,
        gateway(stub.address, max_json_bytes=MAX_JSON, request_timeout=5) as made,
    ):
        yield Running(made, stub)


@pytest.fixture(autouse=True)
def _the_same_workers_go_on(running: Running) -> Iterator[None]:
    before = running.gateway.workers()
    yield
    assert running.gateway.workers() == before
    assert running.ask(post("/predict", PNG, content_type="image/png")).status == 200


@pytest.fixture
def canary(running: Running) -> Iterator[None]:
    """Nothing may be asked of the model server meanwhile."""
    before = running.stub.calls[PREDICT]
    yield
    assert running.stub.calls[PREDICT] == before


INVALID: dict[str, dict[str, bytes]] = {
    "D1": {
        "nothing": b"",
        "no JSON": b"url=http://example.com/a.jpg",
        "cut off": b'{"url": "http://exa',
        "a byte order mark": b"\xef\xbb\xbf" + SOUND,
        "UTF-16": SOUND.decode().encode("utf-16"),
        "UTF-16 without a mark": SOUND.decode().encode("utf-16-be"),
        "UTF-32": SOUND.decode().encode("utf-32"),
        "latin-1": '{"url": "http://example.com/é"}'.encode("latin-1"),
        "overlong UTF-8": b'{"url": "\xc0\xaf"}',
        "a comment": b'{"url": "a"} // b',
        "two documents": SOUND + SOUND,
    },
    "D2": {
        "lists": b"[" * 100_000,
        "objects": b'{"a":' * 50_000,
        "closed lists": b'{"url": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    },
    "D3": {
        "a name twice": b'{"url": "http://192.0.2.1/a", "url": "http://192.0.2.1/b"}',
        "a name twice, once escaped": b'{"url": "http://192.0.2.1/a", "\\u0075rl": "http://192.0.2.1/b"}',
        "a name twice inside": b'{"url": "http://192.0.2.1/a", "top": {"a": 1, "a": 2}}',
    },
    "D5": {
        "an integer of 5,000 digits": b'{"url": "a", "top": ' + b"9" * 5000 + b"}",
        "an integer of 200,000 digits": b'{"url": "a", "version": ' + b"9" * 200_000 + b"}",
        "a fraction of 5,000 digits": b'{"url": "a", "top": 1.' + b"9" * 5000 + b"}",
    },
    "D6": {
        "1": b'{"url": 1}',
        "null": b'{"url": null}',
        "a list": b'{"url": []}',
        "an object": b'{"url": {}}',
        "an empty text": b'{"url": ""}',
        "true": b'{"url": true}',
        "no field": b"{}",
        "an unknown field": b'{"url": "http://192.0.2.1/a", "size": 3}',
        "__proto__": b'{"url": "http://192.0.2.1/a", "__proto__": {"top": 1}}',
        "a list of fields": b'[{"url": "http://192.0.2.1/a"}]',
    },
    "D7": {
        "half a pair in the URL": b'{"url": "\\ud800"}',
        "half a pair in a name": b'{"\\udfff": 1}',
        "half a pair in the model": b'{"url": "http://192.0.2.1/a", "model": "\\udc80"}',
        "half a pair in a list": b'{"urls": ["\\ud83d"]}',
        "halves in the wrong order": b'{"url": "\\ude00\\ud83d"}',
        "an encoded half": b'{"url": "\xed\xa0\x80"}',
    },
}


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(body, id=f"{case} {name}", marks=pytest.mark.case(case))
        for case, bodies in INVALID.items()
        for name, body in bodies.items()
    ],
)
def test_json_that_can_be_read_in_two_ways_answers_400(running: Running, body: bytes) -> None:
    answer = running.ask(post("/predict", body))

    assert answer.status == 400, answer.body
    assert_problem(answer, 400, answer.json["type"].rpartition(":")[2])
    assert answer.json["type"] in {
        "urn:tensorgate:problem:invalid-request",
        "urn:tensorgate:problem:invalid-url",
    }
    answer.body.decode("ascii")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D1", "D6")
def test_the_same_body_without_its_fault_is_read(running: Running) -> None:
    """So the answers above are those faults' and not something else's."""
    assert_problem(running.ask(post("/predict", SOUND)), 422, "url-not-allowed")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D4")
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_does_not_have_is_named(running: Running, number: str) -> None:
    answer = running.ask(post("/predict", b'{"url": "a", "top": ' + number.encode() + b"}"))

    assert_problem(answer, 400, "invalid-request")
    assert f" {number}" in answer.json["detail"]


@pytest.mark.case("D4")
@pytest.mark.parametrize("version", [1, 2])
def test_scores_that_json_has_no_word_for_are_never_answered(
    running: Running, version: int
) -> None:
    path = f"/predict?version={version}"

    answer = running.ask(post(path, PNG, content_type="image/png"))

    assert_problem(answer, 502, "model-failed")
    json.loads(answer.body, parse_constant=pytest.fail)


@pytest.mark.case("D7")
@pytest.mark.parametrize("text", ["\\ud83d\\ude00", "\U0001f600", "\\u0000", "\\u202e"])
def test_a_text_that_is_repeated_is_repeated_in_ascii(running: Running, text: str) -> None:
    body = SOUND[:-1] + b', "model": "' + text.encode() + b'"}'

    answer = running.ask(post("/predict", body))

    assert_problem(answer, 404, "model-not-found")
    answer.body.decode("ascii")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D8")
@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/problem+json",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=x",
        "video/mp4",
        "*/*",
        "image",
        "\xff/\xff",
    ],
)
def test_another_content_type_answers_415(running: Running, content_type: str) -> None:
    request = post("/predict", SOUND, content_type="?").replace(
        b"Content-Type: ?", b"Content-Type: " + content_type.encode("latin-1")
    )

    assert_problem(running.ask(request), 415, "unsupported-media-type")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D8")
def test_no_content_type_answers_415(running: Running) -> None:
    request = post("/predict", SOUND).replace(b"Content-Type: application/json\r\n", b"")

    assert_problem(running.ask(request), 415, "unsupported-media-type")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D8")
@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary_answers_400(running: Running, content_type: str) -> None:
    request = post("/predict", b"--x--\r\n", content_type=content_type)

    assert_problem(running.ask(request), 400, "invalid-request")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D8")
@pytest.mark.parametrize("parameters", ["; charset=utf-8", ";charset=UTF-8", "; v=1", ' ; a="b"'])
def test_a_parameter_that_changes_nothing_is_taken(running: Running, parameters: str) -> None:
    request = post("/predict", SOUND, content_type=JSON + parameters)

    assert_problem(running.ask(request), 422, "url-not-allowed")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D9")
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_another_method_answers_405_and_says_which_there_are(running: Running, method: str) -> None:
    request = post("/predict", SOUND).replace(b"POST", method.encode())

    answer = running.ask(request)

    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D9")
def test_head_answers_as_get_does_and_without_a_body(running: Running) -> None:
    answer = running.ask(b"HEAD /predict HTTP/1.1\r\nHost: gateway.test\r\n\r\n")

    assert (answer.status, answer.headers["allow"], answer.body) == (405, "POST", b"")


@pytest.mark.case("D10")
@pytest.mark.parametrize("accept", ["text/html", "image/*", "*/*;q=0", "application/xml"])
def test_whatever_is_accepted_the_answer_is_json(running: Running, accept: str) -> None:
    good = running.ask(post("/predict", PNG, f"Accept: {accept}", content_type="image/png"))
    bad = running.ask(post("/predict", b"", f"Accept: {accept}"))

    assert (good.status, good.headers["content-type"]) == (200, "application/json")
    assert_problem(bad, 400, "invalid-request")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D11")
def test_json_is_read_up_to_its_limit_and_no_byte_further(running: Running) -> None:
    at_limit = SOUND + b" " * (MAX_JSON - len(SOUND))

    assert_problem(running.ask(post("/predict", at_limit)), 422, "url-not-allowed")
    assert_problem(running.ask(post("/predict", at_limit + b" ")), 413, "content-too-large")


@pytest.mark.usefixtures("canary")
@pytest.mark.case("D11")
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, gzip", "x"])
def test_a_compressed_body_answers_415(running: Running, coding: str) -> None:
    request = post("/predict", gzip.compress(SOUND), f"Content-Encoding: {coding}")

    assert_problem(running.ask(request), 415, "unsupported-media-type")
