"""Every route's failures in one shape, and what operations say."""

import dataclasses
import json
import logging
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.errors import ModelUnavailable
from gateway.scoring.first_start import FirstStart
from gateway.scoring.score import Scorer
from tests.support.fake_serving import FakeServing, FakeVersion, gray, one_server, parts, settings

UNFIT = FakeVersion(labels=("a", "b", "c"), contract=FakeVersion(labels=("a",)).contract_text())


class BrokenScorer:
    def score(self, *_arguments: object) -> None:
        raise ZeroDivisionError("a secret of the process")


class Gateway:
    """An application on a fake model server, and a client of it."""

    def __init__(
        self, serving: FakeServing, first_start: FirstStart | None = None, **environment: str
    ) -> None:
        self.serving = serving
        self.parts = parts(serving, first_start=first_start, **environment)
        self.app = create_app(settings(**environment), self.parts)
        self.client: FlaskClient = self.app.test_client()

    def ready(self, **environ: object) -> tuple[int, dict[str, Any]]:
        answer = self.client.get("/readyz", environ_overrides=environ)
        return answer.status_code, answer.get_json(force=True)


@pytest.fixture
def gateway() -> Gateway:
    made = Gateway(one_server(v1=FakeVersion()))
    made.parts.watcher.look()
    return made


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/nowhere", 404, "not-found"),
        ("POST", "/predict/", 404, "not-found"),
        ("POST", "//predict", 404, "not-found"),
        ("GET", "///readyz", 404, "not-found"),
        ("POST", "/predict//", 404, "not-found"),
        ("GET", "/static/app.js", 404, "not-found"),
        ("GET", "/predict", 405, "method-not-allowed"),
        ("PUT", "/predict", 405, "method-not-allowed"),
        ("OPTIONS", "/predict", 405, "method-not-allowed"),
        ("DELETE", "/models", 405, "method-not-allowed"),
        ("POST", "/predict", 415, "unsupported-media-type"),
    ],
)
def test_what_http_itself_refuses_has_the_one_shape(
    gateway: Gateway, method: str, path: str, status: int, slug: str
) -> None:
    # The client reads `//predict` as a host's name, so the path is put where the server puts it.
    as_sent = {"PATH_INFO": path}
    answer = gateway.client.open(
        method=method, headers={"Accept": "text/html"}, environ_overrides=as_sent
    )
    document = answer.get_json(force=True)
    assert (answer.status_code, document["status"]) == (status, status)
    assert answer.content_type == "application/problem+json"
    assert document["type"] == f"urn:tensorgate:problem:{slug}"
    assert document["detail"] == document["error"]
    assert document["request_id"] == answer.headers["X-Request-ID"]


def test_an_unknown_path_names_the_known_ones(gateway: Gateway) -> None:
    detail = gateway.client.get("/nowhere").get_json(force=True)["detail"]
    assert all(path in detail for path in ("/predict", "/healthz", "/readyz", "/models"))


def test_a_method_that_is_not_allowed_is_told_which_are(gateway: Gateway) -> None:
    answer = gateway.client.get("/predict")
    assert set(answer.headers["Allow"].split(", ")) == {"POST"}
    assert "POST" in answer.get_json(force=True)["detail"]


def test_our_own_mistakes_are_a_fixed_sentence_outside_and_a_trace_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = parts(one_server(v1=FakeVersion()))
    broken = dataclasses.replace(made, scorer=cast(Scorer, BrokenScorer()))
    client = create_app(settings(), broken).test_client()
    with caplog.at_level(logging.ERROR):
        answer = client.post("/predict", json={"url": "https://pictures.example/1"})
    assert answer.status_code == 500
    assert answer.get_json(force=True)["type"] == "urn:tensorgate:problem:internal-error"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "a secret of the process" in caplog.text


def test_the_request_id_of_the_shell_is_the_answers(gateway: Gateway) -> None:
    shell = {"tensorgate.request_id": "abc-1"}
    answer = gateway.client.get("/nowhere", environ_overrides=shell)
    assert answer.headers["X-Request-ID"] == "abc-1"
    assert answer.get_json(force=True)["request_id"] == "abc-1"


def test_healthz_answers_without_a_model_server() -> None:
    serving = FakeServing([{}], failure=ModelUnavailable("It is away."))
    answer = Gateway(serving).client.get("/healthz")
    assert answer.status_code == 200
    assert serving.calls == []


def test_not_ready_before_the_first_look() -> None:
    status, document = Gateway(one_server(v1=FakeVersion())).ready()
    assert status == 503
    assert document["type"] == "urn:tensorgate:problem:not-ready"
    assert document["missing"][0]["model"] == "clothing-model"


def test_ready_once_a_blank_picture_was_scored(gateway: Gateway) -> None:
    assert gateway.ready() == (200, {"status": "ready", "missing": []})
    assert [shape for _, _, shape in gateway.serving.predictions] == [(1, 4, 4, 3)]


def test_ready_costs_no_call(gateway: Gateway) -> None:
    before = len(gateway.serving.calls)
    for _ in range(10):
        gateway.ready()
    assert len(gateway.serving.calls) == before


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (FakeVersion(state="LOADING"), "version 1 is LOADING"),
        (UNFIT, "1 labels"),
        (FakeVersion(carries_contract=False), "CONTRACT_FILES"),
        (FakeVersion(largest_batch=0), "does not fit"),
    ],
    ids=["loading", "unfit contract", "no contract", "failing prediction"],
)
def test_not_ready_while_a_model_cannot_predict_and_says_why(
    version: FakeVersion, reason: str
) -> None:
    made = Gateway(one_server(v1=version))
    made.parts.watcher.look()
    status, document = made.ready()
    assert status == 503
    assert reason in document["missing"][0]["reason"]
    assert reason in document["detail"]


def test_not_ready_while_one_of_two_models_is_missing_and_names_it() -> None:
    made = Gateway(one_server(v1=FakeVersion()), MODELS="clothing-model,other-model")
    made.parts.watcher.look()
    status, document = made.ready()
    assert status == 503
    assert [lack["model"] for lack in document["missing"]] == ["other-model"]
    made.serving.servers[0]["other-model"] = {1: FakeVersion()}
    made.parts.watcher.look()
    assert made.ready()[0] == 200


def test_ready_stays_when_the_model_is_lost_and_names_what_is_missing(gateway: Gateway) -> None:
    gateway.serving.failure = ModelUnavailable("It is away.")
    gateway.parts.watcher.look()
    status, document = gateway.ready()
    assert status == 200
    assert document["missing"] == [{"model": "clothing-model", "reason": "It is away."}]
    gateway.serving.failure = None
    gateway.parts.watcher.look()
    assert gateway.ready() == (200, {"status": "ready", "missing": []})


def test_ready_stays_in_a_worker_that_replaces_another_while_the_model_is_lost() -> None:
    first_start = FirstStart()
    serving = one_server(v1=FakeVersion())
    Gateway(serving, first_start).parts.watcher.look()
    serving.failure = ModelUnavailable("It is away.")
    replacement = Gateway(serving, first_start)
    replacement.parts.watcher.look()

    status, document = replacement.ready()

    assert (status, document["status"]) == (200, "ready")
    assert document["missing"] == [{"model": "clothing-model", "reason": "It is away."}]


def test_a_server_that_was_away_is_asked_for_its_contracts_again(gateway: Gateway) -> None:
    gateway.serving.failure = ModelUnavailable("It is away.")
    gateway.parts.watcher.look()
    gateway.serving.failure = None
    gateway.serving.servers[0]["clothing-model"][1] = FakeVersion(labels=("x", "y", "z"))
    gateway.parts.watcher.look()
    answer = gateway.client.post("/predict", data=gray(0), content_type="image/png")
    assert list(answer.get_json()) == ["x", "y", "z"]


def test_not_ready_in_the_drain(gateway: Gateway) -> None:
    status, document = gateway.ready(**{"tensorgate.draining": True})
    assert status == 503
    assert document["type"] == "urn:tensorgate:problem:draining"


def test_a_new_version_with_an_unfit_contract_leaves_the_gateway_ready(gateway: Gateway) -> None:
    gateway.serving.servers[0]["clothing-model"][2] = UNFIT
    gateway.parts.watcher.look()
    status, document = gateway.ready()
    assert status == 200
    assert "1 labels" in document["missing"][0]["reason"]
    answer = gateway.client.post("/predict", data=gray(0), content_type="image/png")
    assert answer.status_code == 503
    assert answer.get_json(force=True)["type"] == "urn:tensorgate:problem:contract-mismatch"


def test_models_shows_contracts_and_states() -> None:
    made = Gateway(one_server(v1=FakeVersion(), v2=FakeVersion(side=6), v3=UNFIT))
    made.parts.watcher.look()
    (model,) = made.client.get("/models").get_json()["models"]
    assert (model["name"], model["default"], model["current"]) == ("clothing-model", True, 3)
    third, second, first = model["versions"]
    assert [entry["state"] for entry in (first, second, third)] == ["AVAILABLE"] * 3
    assert first["contract"]["labels"] == ["dress", "hat", "pants"]
    assert first["contract"]["input"] == {
        "name": "image",
        "dtype": "float32",
        "shape": [-1, 4, 4, 3],
    }
    assert second["contract"]["preprocessing"]["height"] == 6
    assert third["contract"] is None
    assert "1 labels" in third["contract_error"]


def test_models_is_known_before_the_first_look() -> None:
    (model,) = Gateway(one_server(v1=FakeVersion())).client.get("/models").get_json()["models"]
    assert (model["current"], model["versions"]) == (None, [])


@pytest.mark.parametrize("gone", ["END", "UNLOADING", ""])
def test_a_version_that_no_server_has_any_more_is_forgotten(gateway: Gateway, gone: str) -> None:
    versions = gateway.serving.servers[0]["clothing-model"]
    versions[2] = FakeVersion()
    if gone:
        versions[1].state = gone
    else:
        del versions[1]
    gateway.parts.watcher.look()
    assert list(gateway.parts.contracts.known("clothing-model")) == [2]


def test_the_watcher_looks_by_itself_and_survives_its_own_mistakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Gateway(one_server(v1=FakeVersion()))
    looks: list[int] = []
    seen = made.parts.watcher.look

    def look() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise ZeroDivisionError
        seen()
        made.parts.stop()

    monkeypatch.setattr(made.parts.watcher, "look", look)
    made.parts.start()
    made.parts.watcher.join(5)
    assert made.ready()[0] == 200


def test_what_only_the_operator_may_read_is_in_the_log(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.serving.failure = ModelUnavailable("It is away.", log_detail="10.0.0.7 refused")
    with caplog.at_level(logging.INFO):
        answer = gateway.client.post("/predict", data=gray(0), content_type="image/png")
    assert "10.0.0.7" not in answer.text
    assert [record.__dict__["fields"]["detail"] for record in caplog.records] == [
        "10.0.0.7 refused"
    ]


def test_key_order_is_kept(gateway: Gateway) -> None:
    text = gateway.client.get("/nowhere").text
    assert list(json.loads(text))[:3] == ["type", "title", "status"]
