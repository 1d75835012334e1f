"""`POST /predict` as callers see it: every form of body, every option, the answers' raw bytes."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.cancellation import Cancellation
from gateway.errors import (
    DeadlineExceeded,
    GatewayError,
    ModelFailed,
    ModelOverloaded,
    ModelUnavailable,
)
from gateway.routes.base64_picture import read_picture
from gateway.routes.multipart import read_files
from tests.support.fake_serving import FakeServing, FakeVersion, gray, one_server, parts, settings

MISSING = "https://pictures.example/missing"
SCORES = np.array([[0.1, -2.5, 1e-7]] * 16, np.float32)


def client_of(serving: FakeServing, **environment: str) -> FlaskClient:
    return create_app(
        settings(**environment), parts(serving, first_start=None, **environment)
    ).test_client()


@pytest.fixture
def client() -> FlaskClient:
    return client_of(one_server(v1=FakeVersion(), v2=FakeVersion(offset=0.5)))


def multipart(*files: bytes, field: str = "file") -> dict[str, Any]:
    parts_of_body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n%s\r\n" % (field.encode(), file)
        for file in files
    )
    body = parts_of_body + b"--xyz--\r\n"
    return {"data": body, "content_type": "multipart/form-data; boundary=xyz"}


def test_a_url_answers_the_flat_object_byte_for_byte() -> None:
    client = client_of(one_server(v1=FakeVersion(labels=("pants", "hat", "dress"), outputs=SCORES)))
    answer = client.post("/predict", json={"url": "https://pictures.example/7"})
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.data == b'{"pants": 0.1, "hat": -2.5, "dress": 1e-07}\n'


def test_the_headers_name_model_version_request_and_stages(client: FlaskClient) -> None:
    shell = {"tensorgate.request_id": "abc-1", "tensorgate.queue_seconds": 0.25}
    answer = client.post(
        "/predict", json={"url": "https://pictures.example/7"}, environ_overrides=shell
    )
    assert answer.headers["X-Model-Name"] == "clothing-model"
    assert answer.headers["X-Model-Version"] == "2"
    assert answer.headers["X-Request-ID"] == "abc-1"
    stages = [entry.split(";dur=") for entry in answer.headers["Server-Timing"].split(", ")]
    assert [name for name, _ in stages] == ["queue", "fetch", "decode", "predict"]
    assert float(stages[0][1]) == 250
    assert all(float(milliseconds) >= 0 for _, milliseconds in stages)


def test_top_is_best_first(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"url": "https://pictures.example/7", "top": 2})
    assert answer.data == b'{"pants": 9.5, "hat": 8.5}\n'


def test_top_of_more_than_there_are_is_all_of_them(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"url": "https://pictures.example/7", "top": 99})
    assert list(answer.get_json()) == ["pants", "hat", "dress"]


def test_probabilities_are_softmax_in_the_contracts_order(client: FlaskClient) -> None:
    body = {"url": "https://pictures.example/7", "probabilities": True}
    scores = client.post("/predict", json=body).get_json()
    powers = np.exp(np.array([0.0, 1.0, 2.0]))
    assert list(scores) == ["dress", "hat", "pants"]
    assert np.allclose(list(scores.values()), powers / powers.sum(), rtol=1e-12)


def test_probabilities_false_is_the_raw_scores(client: FlaskClient) -> None:
    body = {"url": "https://pictures.example/7", "probabilities": False}
    assert client.post("/predict", json=body).get_json()["dress"] == 7.5


def test_a_version_can_be_named(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"url": "https://pictures.example/7", "version": 1})
    assert answer.get_json()["dress"] == 7.0
    assert answer.headers["X-Model-Version"] == "1"


def test_a_label_can_be_named() -> None:
    serving = one_server(v1=FakeVersion(), v2=FakeVersion(offset=0.5))
    serving.labels["stable"] = 1
    body = {"url": "https://pictures.example/7", "label": "stable"}
    answer = client_of(serving).post("/predict", json=body)
    assert (answer.get_json()["dress"], answer.headers["X-Model-Version"]) == (7.0, "1")


def test_a_model_can_be_named() -> None:
    serving = one_server(v1=FakeVersion())
    serving.servers[0]["other"] = {5: FakeVersion(labels=("cat", "dog"))}
    client = client_of(serving, MODELS="clothing-model,other")
    answer = client.post("/predict", json={"url": "https://pictures.example/7", "model": "other"})
    assert answer.get_json() == {"cat": 7.0, "dog": 8.0}
    assert answer.headers["X-Model-Name"] == "other"


def test_a_list_of_urls_answers_in_order_each_with_scores_or_its_own_error(
    client: FlaskClient,
) -> None:
    names = ("3", "missing", "1", "broken")
    body = {"urls": [f"https://pictures.example/{name}" for name in names], "top": 1}
    answer = client.post("/predict", json=body)
    first, second, third, fourth = answer.get_json()["predictions"]
    assert answer.status_code == 200
    assert first == {"scores": {"pants": 5.5}}
    assert third == {"scores": {"pants": 3.5}}
    assert second["error"]["type"] == "urn:tensorgate:problem:origin-failed"
    assert (second["error"]["status"], second["error"]["origin_status"]) == (502, 404)
    assert fourth["error"]["type"] == "urn:tensorgate:problem:undecodable-image"
    assert fourth["error"]["request_id"] == answer.headers["X-Request-ID"]


def test_a_list_of_one_url_is_a_list(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"urls": ["https://pictures.example/3"]})
    assert len(answer.get_json()["predictions"]) == 1


def test_a_list_without_any_scores_names_no_version(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"urls": ["https://pictures.example/missing"]})
    assert answer.status_code == 200
    assert "X-Model-Version" not in answer.headers
    assert answer.headers["X-Model-Name"] == "clothing-model"


PICTURE = b"gray 255" + b" " * 5
STANDARD = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    "text",
    [
        STANDARD,
        STANDARD.rstrip("="),
        base64.urlsafe_b64encode(PICTURE).decode(),
        f"data:image/png;base64,{STANDARD}",
        f"DATA:image/png;charset=x;BASE64,{STANDARD.rstrip('=')}",
        f"data:;base64,{STANDARD}",
        f"{STANDARD[:5]}\n{STANDARD[5:]}\r\n",
    ],
)
def test_a_picture_in_base64_is_scored(client: FlaskClient, text: str) -> None:
    assert client.post("/predict", json={"image": text}).get_json()["dress"] == 255.5


def test_both_alphabets_of_base64_are_the_same_bytes() -> None:
    data = bytes(range(256)) + b"\xfb\xff\xfe"
    assert b"+" in base64.b64encode(data)
    for size in range(len(data) - 3, len(data) + 1):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(data[:size]).decode()
            assert read_picture(text, 1000) == read_picture(text.rstrip("="), 1000) == data[:size]


def test_a_picture_may_be_larger_than_json_otherwise_may() -> None:
    picture = gray(3) + b" " * 5000
    client = client_of(one_server(v1=FakeVersion()), MAX_JSON_BYTES="1024")
    body = {"image": base64.b64encode(picture).decode()}
    assert client.post("/predict", json=body).get_json()["dress"] == 3.0


@pytest.mark.parametrize("media", ["image/png", "image/jpeg", "IMAGE/WEBP", "image/x-unknown"])
def test_a_raw_picture_is_scored(client: FlaskClient, media: str) -> None:
    answer = client.post("/predict?top=1", data=gray(9), content_type=media)
    assert answer.get_json() == {"pants": 11.5}


def test_options_of_an_upload_are_query_parameters(client: FlaskClient) -> None:
    query = "model=clothing-model&version=1&top=3&probabilities=true"
    answer = client.post(f"/predict?{query}", data=gray(9), content_type="image/png")
    assert answer.headers["X-Model-Version"] == "1"
    assert list(answer.get_json()) == ["pants", "hat", "dress"]
    assert sum(answer.get_json().values()) == pytest.approx(1)


def test_one_file_in_a_form_answers_flat(client: FlaskClient) -> None:
    answer = client.post("/predict?top=1", **multipart(gray(9), field="anything"))
    assert answer.get_json() == {"pants": 11.5}


def test_several_files_in_a_form_answer_in_order(client: FlaskClient) -> None:
    answer = client.post("/predict?top=1", **multipart(gray(9), b"broken", gray(1)))
    first, second, third = answer.get_json()["predictions"]
    assert (first, third) == ({"scores": {"pants": 11.5}}, {"scores": {"pants": 3.5}})
    assert second["error"]["status"] == 422


def test_files_may_hold_any_bytes() -> None:
    hostile = [b"\r\n--xy\r\n", b"\r\n--xyZ--", b"--\r\n\r\n", b"\r", b"\n", b"", b"\r\n" * 3]
    body = multipart(*hostile)["data"]
    assert read_files(body, "xyz", 16) == hostile


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="f"; filename="\xc3\xbc%22.jpg"',
        b"Content-Disposition: form-data; name=f; filename=a.jpg; filename*=utf-8''a.jpg",
        b'Content-Disposition: form-data; filename="a.jpg"; name="f"',
        b'Content-Disposition: form-data; name="f"; filename=""',
        b'Content-Disposition: form-data; name=""; filename="a \\"b\\"; c.jpg"',
        b'Content-Disposition: form-data; name="f"; filename="C:\\a.jpg"',
        b'content-disposition:form-data;name="f";filename="a.jpg"',
        b'CONTENT-DISPOSITION: FORM-DATA; NAME="f"; FILENAME="a.jpg"',
        b'Content-Type: image/jpeg\r\nContent-Disposition: form-data; name="f"; filename="a.jpg"',
        b'Content-Disposition: form-data; name="f"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\nContent-Length: 2\r\nContent-Transfer-Encoding: binary",
    ],
)
def test_files_are_read_however_clients_write_their_heads(head: bytes) -> None:
    assert read_files(b"--xyz\r\n%b\r\n\r\nhi\r\n--xyz--" % head, "xyz", 1) == [b"hi"]


@pytest.mark.parametrize(
    ("body", "model", "version", "outcome"),
    [
        ({"url": "https://pictures.example/1"}, "clothing-model", "1", "ok"),
        ({"url": MISSING}, "clothing-model", "", "upstream"),
        ({"url": "https://pictures.example/broken"}, "clothing-model", "", "refused"),
        ({"urls": [MISSING, "https://pictures.example/1"]}, "clothing-model", "1", "ok"),
        ({"urls": [MISSING]}, "clothing-model", "", "upstream"),
        ({"url": "https://pictures.example/1", "version": 9}, "clothing-model", "", "not-found"),
        ({"url": "https://pictures.example/1", "model": "x"}, "other", "", "not-found"),
        ({"url": 1}, "other", "", "invalid"),
    ],
)
def test_every_request_is_counted_by_model_version_and_outcome(
    body: dict[str, Any], model: str, version: str, outcome: str
) -> None:
    made = parts(one_server(v1=FakeVersion()))
    create_app(settings(), made).test_client().post("/predict", json=body)
    labels = {"model": model, "version": version, "outcome": outcome}
    counted = made.metrics.registry.get_sample_value("tensorgate_requests_total", labels)
    assert counted == 1


def test_a_caller_that_hung_up_is_not_counted_as_a_wrong_request() -> None:
    made = parts(one_server(v1=FakeVersion()))
    cancelled = Cancellation()
    cancelled.set()
    create_app(settings(), made).test_client().post(
        "/predict",
        data=gray(1),
        content_type="image/png",
        environ_overrides={"tensorgate.cancelled": cancelled},
    )
    labels = {"model": "clothing-model", "version": "", "outcome": "caller-gone"}
    assert made.metrics.registry.get_sample_value("tensorgate_requests_total", labels) == 1


def test_only_the_stages_that_a_request_went_through_are_timed() -> None:
    made = parts(one_server(v1=FakeVersion()))
    shell = {"tensorgate.queue_seconds": 0.25}
    create_app(settings(), made).test_client().post(
        "/predict", data=gray(1), content_type="image/png", environ_overrides=shell
    )
    samples = [sample for metric in made.metrics.registry.collect() for sample in metric.samples]
    timed = {
        sample.labels["stage"]
        for sample in samples
        if sample.name == "tensorgate_stage_seconds_count"
    }
    assert timed == {"queue", "decode", "predict"}


@pytest.mark.parametrize(
    ("failure", "status", "slug"),
    [
        (ModelUnavailable("It is away."), 503, "model-unavailable"),
        (ModelOverloaded("It is full."), 503, "model-overloaded"),
        (ModelFailed("It failed."), 502, "model-failed"),
        (DeadlineExceeded("It took too long."), 504, "deadline-exceeded"),
    ],
)
def test_failures_of_the_model_server_have_their_status(
    failure: GatewayError, status: int, slug: str
) -> None:
    client = client_of(FakeServing([{}], failure=failure))
    answer = client.post("/predict", json={"url": "https://pictures.example/7"})
    assert answer.status_code == status
    assert answer.get_json(force=True)["type"] == f"urn:tensorgate:problem:{slug}"
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_a_score_that_is_no_number_is_never_sent() -> None:
    outputs = np.array([[0.0, np.nan, np.inf]], np.float32)
    client = client_of(one_server(v1=FakeVersion(outputs=outputs)))
    answer = client.post("/predict", json={"url": "https://pictures.example/7"})
    assert answer.status_code == 502
    assert "NaN" not in answer.text
    assert "Infinity" not in answer.text


def test_labels_beyond_ascii_survive() -> None:
    client = client_of(one_server(v1=FakeVersion(labels=("robe", "été", "帽子"))))
    answer = client.post("/predict", json={"url": "https://pictures.example/0"})
    assert json.loads(answer.data) == {"robe": 0.0, "été": 1.0, "帽子": 2.0}
