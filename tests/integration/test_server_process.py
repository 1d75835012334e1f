"""The server as a process: `python -m gateway` with an application that says what it was asked."""

from collections.abc import Iterator

import pytest

from tests.support.server_process import Caller, ServerProcess, get, post, running


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running(workers=2, threads=2) as process:
        yield process


def test_a_whole_request_reaches_the_application(server: ServerProcess) -> None:
    with Caller(server.address) as caller:
        answer = caller.ask(post("/predict?top=3", b'{"url": "x"}'))

    assert answer.status == 200
    assert (answer.json["method"], answer.json["path"], answer.json["query"]) == (
        "POST",
        "/predict",
        "top=3",
    )
    assert answer.json["length"] == 12


def test_metrics_are_served_on_their_own_port(server: ServerProcess) -> None:
    with Caller(server.metrics_address) as caller:
        answer = caller.ask(get("/metrics"))

    assert answer.status == 200
    assert b"tensorgate_in_flight" in answer.body
