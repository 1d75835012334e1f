"""The lines that say who was refused what."""

import json
import logging

import pytest
from flask.testing import FlaskClient

from gateway import audit
from gateway.app import create_app
from gateway.audit import LINES_A_SECOND, LONGEST_URL, Throttle, plain_url
from gateway.callers import Caller
from gateway.errors import RateLimited
from gateway.logs import JSONLines, request_fields
from tests.support.fake_serving import FakeVersion, one_server, parts, settings

KEY = "tensorgate_" + 43 * "A"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_so_many_of_a_sort_pass_in_a_second_and_the_others_are_counted() -> None:
    clock = Clock()
    throttle = Throttle(3, clock)
    assert [throttle.passes("a") for _ in range(5)] == [True, True, True, False, False]
    assert throttle.passes("b")
    assert throttle.take_dropped() == {"a": 2}
    assert throttle.take_dropped() == {}
    clock.now += 1
    assert throttle.passes("a")


def test_a_flood_is_a_few_lines_and_a_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "_throttle", Throttle(LINES_A_SECOND, Clock()))
    for _ in range(1000):
        audit.refused("unauthorized", "no key", {})
    audit.refused("rate-limited", "too many", {})
    audit.flush()

    lines = [record.__dict__["fields"] for record in caplog.records]
    assert len([line for line in lines if line.get("detail") == "no key"]) == LINES_A_SECOND
    assert len([line for line in lines if line.get("detail") == "too many"]) == 1
    assert lines[-1] == {"guard": "unauthorized", "refusals": 1000 - LINES_A_SECOND}


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://a.example/b/c.jpg", "https://a.example/b/c.jpg"),
        ("https://a.example/b?token=secret", "https://a.example/b"),
        ("https://a.example/b#secret", "https://a.example/b"),
        ("https://user:secret@a.example/b", "https://a.example/b"),
        ("https://secret@secret@a.example/b", "https://a.example/b"),
        ("https://secret:@a.example\\@b", "https://a.example\\@b"),
        ("https:secret@a.example/b", "https:a.example/b"),
        ("https:/secret@a.example/b", "https:/a.example/b"),
        ("https:\\\\secret@a.example/b", "https:\\\\a.example/b"),
        ("//secret@a.example/b", "//a.example/b"),
        ("secret:secret@a.example", "a.example"),
        (" https://user:secret@a.example/b", "a.example/b"),
        ('"https://user:secret@a.example/b"', 'a.example/b"'),
        ("url=https://user:secret@a.example/b", "a.example/b"),
        ("view-source:https://user:secret@a.example/b", "a.example/b"),
        ("https://https://user:secret@a.example/b", "a.example/b"),
        ("https://user:sec/ret@a.example/b", "a.example/b"),
        ("https://user:secr?et@a.example/b", "https://"),
        ("https://user:secr#et@a.example/b", "https://"),
        ("https://[2001:db8::1]:443/b", "https://[2001:db8::1]:443/b"),
        ("https://a b.example/c", "https://a b.example/c"),
        ("https://a.example/@somebody/b.jpg", "https://a.example/@somebody/b.jpg"),
        ("https://a.example?u=https://b:c@d/", "https://a.example"),
        ("", ""),
        ("x" * 10_000, "x" * LONGEST_URL),
    ],
)
def test_a_url_loses_its_query_and_its_userinfo(url: str, plain: str) -> None:
    assert plain_url(url) == plain


def test_a_key_is_in_no_line_wherever_it_was_put() -> None:
    fields = request_fields("GET", f"/predict/{KEY}", KEY, Caller("192.0.2.1"))
    record = logging.makeLogRecord({"msg": KEY, "fields": {**fields, "detail": KEY[:-5]}})
    text = JSONLines().format(record)

    assert "AAAA" not in text
    assert json.loads(text)["path"] == "/predict/(an API key)"


@pytest.fixture
def client() -> FlaskClient:
    return create_app(settings(), parts(one_server(v1=FakeVersion()))).test_client()


@pytest.fixture
def log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> pytest.LogCaptureFixture:
    """The log, in which no earlier test has used up a second's lines."""
    monkeypatch.setattr(audit, "_throttle", Throttle(LINES_A_SECOND))
    return caplog


def audited(log: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [line.__dict__["fields"] for line in log.records if line.name == "tensorgate.audit"]


SHELL = {
    "tensorgate.caller": Caller("198.51.100.1", proxy="10.0.0.1", key="shop"),
    "tensorgate.request_id": "abc-1",
}


def test_a_picture_that_is_refused_is_a_line_with_who_and_what_and_why(
    client: FlaskClient, log: pytest.LogCaptureFixture
) -> None:
    url = "https://user:secret@pictures.example/x.jpg?secret=1"
    client.post("/predict", json={"url": url}, environ_overrides=SHELL)

    assert audited(log) == [
        {
            "guard": "undecodable-image",
            "detail": "This is no picture.",
            "request_id": "abc-1",
            "caller": "198.51.100.1",
            "proxy": "10.0.0.1",
            "key": "shop",
            "method": "POST",
            "path": "/predict",
            "url": "https://pictures.example/x.jpg",
        }
    ]


def test_of_a_list_each_picture_that_is_refused_is_a_line_of_its_own(
    client: FlaskClient, log: pytest.LogCaptureFixture
) -> None:
    urls = [f"https://pictures.example/{name}" for name in ("a", "100", "missing", "b")]
    client.post("/predict", json={"urls": urls}, environ_overrides=SHELL)

    assert [(line["guard"], line["url"]) for line in audited(log)] == [
        ("undecodable-image", urls[0]),
        ("undecodable-image", urls[3]),
    ]


@pytest.mark.parametrize(
    ("path", "body", "guard"),
    [
        ("/nowhere", b"", "not-found"),
        ("/models", b"", "method-not-allowed"),
        ("/predict", b"{", "invalid-request"),
        ("/predict", b'{"url": "https://a.example/1", "model": "b"}', "model-not-found"),
    ],
)
def test_a_request_that_is_refused_is_a_line(
    client: FlaskClient, log: pytest.LogCaptureFixture, path: str, body: bytes, guard: str
) -> None:
    client.post(path, data=body, content_type="application/json", environ_overrides=SHELL)

    (line,) = audited(log)
    assert (line["guard"], line["caller"], line["path"]) == (guard, "198.51.100.1", path)


def test_what_is_answered_or_fails_is_no_refusal(
    client: FlaskClient, log: pytest.LogCaptureFixture
) -> None:
    for name in ("100", "missing"):
        client.post("/predict", json={"url": f"https://pictures.example/{name}"})
    client.get("/healthz")

    assert audited(log) == []


@pytest.mark.parametrize(("names", "status"), [(["1", "2", "3"], 200), (["1", "2", "3", "4"], 429)])
def test_the_pictures_of_a_request_are_counted_before_any_is_fetched(
    names: list[str], status: int
) -> None:
    serving = one_server(v1=FakeVersion())
    client = create_app(settings(), parts(serving)).test_client()
    counted = []

    def count(pictures: int) -> None:
        counted.append(pictures)
        if pictures > 3:
            raise RateLimited("Wait.", retry_after=7)

    answer = client.post(
        "/predict",
        json={"urls": [f"https://pictures.example/{name}" for name in names]},
        environ_overrides={"tensorgate.count_pictures": count},
    )

    assert counted == [len(names)]
    assert answer.status_code == status
    assert bool(serving.predictions) == (status == 200)
    assert answer.headers.get("Retry-After") == (None if status == 200 else "7")
