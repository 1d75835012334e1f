"""TensorFlow Serving failing in every way that the list of hostile cases has, made for real.

Between the gateway's process and a stub on a real gRPC port stands a proxy of ours that cuts,
resets, delays and swallows. A row says what the caller gets; each ends inside the request's time,
with the same worker processes, and predictions go on as soon as the fault is over.
"""

import dataclasses
import json
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.model_client.guards import FAILURES
from gateway.model_client.protos import tensor_pb2
from tests.support.cases import rows
from tests.support.fault_proxy import FaultProxy
from tests.support.model_faults import UPLOAD, check, circuit, metric, times_opened
from tests.support.processes import Answer, Gateway, gateway, wait_until
from tests.support.stub_serving import (
    METADATA,
    PREDICT,
    QUEUE_FULL,
    Failure,
    StubModel,
    StubServing,
)

SECONDS = 2.0
"""A request's time here."""

BOUND = SECONDS + 1.0
"""By when every answer is there, on a busy machine too."""

CODE = grpc.StatusCode
PREDICTIONS = frozenset({PREDICT})
RETRIES = "tensorgate_model_retries_total"


@dataclass
class Place:
    """A gateway, the proxy that it takes for its model server, and the stub behind that."""

    gateway: Gateway
    proxy: FaultProxy
    stub: StubServing

    def ask(self, **fields: object) -> Answer:
        """One prediction, which must be answered in time."""
        begun = time.monotonic()
        answer = self.gateway.predict({**UPLOAD, **fields})
        assert time.monotonic() - begun < BOUND
        return answer

    def check(self, status: int, slug: str, **fields: object) -> Answer:
        """A prediction that must fail so."""
        answer = self.ask(**fields)
        check(answer, status, slug)
        return answer

    def accepted(self, connections: int) -> bool:
        """Whether the proxy has taken so many."""
        return self.proxy.connections >= connections

    def says_goodbye(self, frame: bytes) -> bool:
        """Whether somebody was there to be told."""
        return self.proxy.tell_callers(frame) > 0

    def predictions(self) -> int:
        """Calls of Predict that have reached the stub."""
        return self.stub.calls[PREDICT]

    def heal(self) -> None:
        """End every fault, and wait until predictions go on."""
        self.stub.failure = None
        self.stub.delay = 0.0
        self.stub.versions = {1: StubModel()}
        self.proxy.heal()
        wait_until(lambda: self.gateway.predict(UPLOAD).status == 200, "predictions go on")


@pytest.fixture(scope="module")
def started() -> Iterator[Place]:
    """One worker, which looks at the model once only, so that calls can be counted.

    So many threads have a budget that no row uses up.
    """
    stub = StubServing()
    with stub, FaultProxy(stub.address) as proxy:
        settings: dict[str, Any] = {"workers": 1, "threads": 64, "request_timeout": SECONDS}
        with gateway(proxy.address, model_watch_interval=600, **settings) as found:
            yield Place(found, proxy, stub)


@pytest.fixture
def place(started: Place) -> Iterator[Place]:
    """Whole at the start and at the end, with the same processes."""
    workers = started.gateway.workers()
    started.heal()
    yield started
    started.heal()
    assert started.gateway.workers() == workers
    assert started.gateway.ask("GET", "/healthz").status == 200


# --- the network


@pytest.mark.case("F3")
def test_silence_ends_with_the_deadline(place: Place) -> None:
    place.proxy.silent = True
    before = place.predictions()
    place.check(504, "deadline-exceeded")
    assert place.gateway.ready(), "who is ready stays so: all gateways would leave at once"
    assert place.predictions() == before


@pytest.mark.case("F4")
def test_a_server_too_far_away_ends_with_the_deadline(place: Place) -> None:
    place.proxy.delay = 2 * SECONDS
    place.check(504, "deadline-exceeded")


@pytest.mark.case("F6")
def test_a_line_too_thin_for_the_tensor_ends_with_the_deadline(place: Place) -> None:
    place.proxy.rate = 1000
    before = place.predictions()
    place.check(504, "deadline-exceeded")
    assert place.predictions() == before


@pytest.mark.case("F5")
@pytest.mark.parametrize("kept", [0, 100, 500_000])
def test_a_reset_in_the_request_is_tried_again(place: Place, kept: int) -> None:
    repeated = metric(place.gateway, RETRIES)
    place.proxy.cut_requests(kept, times=1)
    accepted = place.proxy.connections
    assert place.ask().status == 200
    assert place.proxy.connections > accepted, "nothing was reset: the row shows nothing"
    assert metric(place.gateway, RETRIES) <= repeated + 2


@pytest.mark.case("F5")
def test_a_connection_reset_while_idle_costs_nobody_an_answer(place: Place) -> None:
    for _ in range(5):
        place.proxy.reset()
        assert place.ask().status == 200


@pytest.mark.case("F5")
def test_resets_that_do_not_end_are_unavailable_after_three_tries(place: Place) -> None:
    place.proxy.cut_requests(100_000)
    place.check(503, "model-unavailable")


class Cutting(StubServing):
    """Has so many of its answers cut off by the proxy in front of it."""

    cuts: float = 0
    cut: Callable[[], None]

    def answer(self, method: str, request: bytes, context: Any) -> bytes:
        answer = super().answer(method, request, context)
        if method == PREDICT and self.cuts:
            self.cuts -= 1
            self.cut()
        return answer


@pytest.mark.case("F7")
@pytest.mark.parametrize(("times", "status", "calls"), [(1, 200, 2), (99, 503, 3)])
def test_an_answer_that_is_cut_off_is_asked_for_again(times: int, status: int, calls: int) -> None:
    stub = Cutting()
    with ExitStack() as parts:
        parts.enter_context(stub)
        proxy = parts.enter_context(FaultProxy(stub.address))
        found = parts.enter_context(gateway(proxy.address, model_watch_interval=600))
        assert found.predict(UPLOAD).status == 200
        before = stub.calls[PREDICT]
        stub.cuts, stub.cut = times, partial(proxy.cut_answers, 10, times=1)
        answer = found.predict(UPLOAD)
        assert answer.status == status
        assert stub.calls[PREDICT] == before + calls
        if status == 503:
            check(answer, 503, "model-unavailable")


def goaway(last_stream: int) -> bytes:
    """HTTP/2's frame GOAWAY, as a server sends it to who pings too often (RFC 9113, 6.8)."""
    payload = struct.pack(">II", last_stream, 0xB) + b"too_many_pings"
    return len(payload).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + payload


@pytest.mark.case("F19")
@pytest.mark.parametrize("last_stream", [0, 2**31 - 1])
def test_a_server_that_says_goodbye_is_connected_to_again(place: Place, last_stream: int) -> None:
    for _ in range(3):
        connected_again = place.proxy.connections + 1
        wait_until(partial(place.says_goodbye, goaway(last_stream)), "somebody is told")
        assert place.ask().status == 200
        wait_until(partial(place.accepted, connected_again), "a new connection")


# --- statuses

STATUSES = {
    "F9 queue full": (CODE.UNAVAILABLE, f"{QUEUE_FULL}; task size is 1", 503, "model-overloaded"),
    "F9 exhausted": (CODE.RESOURCE_EXHAUSTED, "too much", 503, "model-overloaded"),
    "F9 too large": (
        CODE.RESOURCE_EXHAUSTED,
        "SERVER: Received message larger than max (9 vs. 4)",
        500,
        "model-rejected-input",
    ),
    "F10 INVALID_ARGUMENT": (
        CODE.INVALID_ARGUMENT,
        "input must be 4-dimensional",
        500,
        "model-rejected-input",
    ),
    "F12 FAILED_PRECONDITION": (
        CODE.FAILED_PRECONDITION,
        "not initialized",
        500,
        "model-rejected-input",
    ),
    "F13 INTERNAL": (CODE.INTERNAL, "broken", 502, "model-failed"),
    "F13 UNKNOWN": (CODE.UNKNOWN, "broken", 502, "model-failed"),
    "F13 DATA_LOSS": (CODE.DATA_LOSS, "broken", 502, "model-failed"),
}


@pytest.mark.parametrize(("code", "details", "status", "slug"), rows(STATUSES))
def test_a_status_is_answered_as_it_means_and_neither_repeated_nor_held_against_the_server(
    place: Place, code: grpc.StatusCode, details: str, status: int, slug: str
) -> None:
    """A refused tensor is sent once more, naming the version that serves now: it may be another."""
    repeated = metric(place.gateway, RETRIES)
    opened = times_opened(place.gateway)
    calls = 2 if slug == "model-rejected-input" else 1
    place.stub.failure = Failure(code, details, methods=PREDICTIONS)
    for _ in range(2 * FAILURES):
        before = place.predictions()
        place.check(status, slug)
        assert place.predictions() == before + calls
    assert circuit(place.gateway) == "closed"
    assert times_opened(place.gateway) == opened
    assert metric(place.gateway, RETRIES) == repeated


@pytest.mark.case("F9")
def test_a_tensor_that_is_too_large_for_the_server_is_not_sent_again() -> None:
    limit = [("grpc.max_receive_message_length", 100_000)]
    with StubServing(options=limit) as stub, gateway(stub.address, wait=False) as found:
        wait_until(lambda: bool(stub.calls[METADATA]), "the model is looked at")
        answer = found.predict(UPLOAD)
        check(answer, 500, "model-rejected-input")
        assert metric(found, RETRIES) == 0


@pytest.mark.case("F11")
def test_a_version_that_is_gone_is_not_found_only_for_who_named_it(place: Place) -> None:
    place.check(404, "model-not-found", version=9)
    place.check(404, "model-not-found", label="blue")
    gone = "Servable not found for request: Latest(clothing-model)"
    place.stub.failure = Failure(CODE.NOT_FOUND, gone, methods=PREDICTIONS)
    answer = place.ask()
    assert answer.status == 503
    assert "retry-after" in answer.headers
    assert circuit(place.gateway) == "closed"


@pytest.mark.case("F11")
def test_a_version_that_is_unloaded_between_two_calls_costs_nobody_an_answer(place: Place) -> None:
    place.stub.versions = {2: StubModel()}
    answer = place.ask()
    assert (answer.status, answer.headers["x-model-version"]) == (200, "2")


@pytest.mark.case("F21")
def test_a_label_that_moves_to_another_version_is_followed_at_once(place: Place) -> None:
    place.stub.versions = {1: StubModel(), 2: StubModel()}
    for version in (1, 2, 1):
        place.stub.labels = {"stable": version}
        answer = place.ask(label="stable")
        assert (answer.status, answer.headers["x-model-version"]) == (200, str(version))
    place.stub.labels = {}


# --- answers that make no sense


@dataclass(frozen=True)
class Senseless(StubModel):
    """Answers these outputs, whatever goes in."""

    outputs: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def predict(self, _inputs: Mapping[str, tensor_pb2.Tensor]) -> dict[str, np.ndarray]:
        return dict(self.outputs)


def scores(*shape: int, value: float = 0.5, dtype: str = "float32") -> dict[str, np.ndarray]:
    return {"dense_7": np.full(shape, value, dtype)}


SENSELESS = {
    "F14 NaN": (scores(1, 10, value=float("nan")),),
    "F14 Inf": (scores(1, 10, value=float("inf")),),
    "F14 no output": ({},),
    "F14 another output": ({"other": np.zeros((1, 10), np.float32)},),
    "F14 no scores": (scores(0, 10),),
    "F14 too many pictures": (scores(2, 10),),
    "F14 too few labels": (scores(1, 9),),
    "F14 one number": (scores(),),
    "F14 truth values": (scores(1, 10, dtype="bool"),),
    "F14 strings": ({"dense_7": np.full((1, 10), b"0.5", object)},),
}


@pytest.mark.parametrize("outputs", rows(SENSELESS))
def test_an_answer_that_makes_no_sense_is_502(place: Place, outputs: dict[str, np.ndarray]) -> None:
    place.stub.versions = {1: Senseless(outputs=outputs)}
    answer = place.check(502, "model-failed")
    json.loads(answer.body, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
