"""The client against real gRPC servers on loopback."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from gateway import errors
from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.model_client.channel import MAX_ANSWER_BYTES
from gateway.model_client.client import ModelClient, ModelSpec, Prediction, VersionStatus
from gateway.model_client.guards import FAILURES, Guards, State
from gateway.model_client.messages import Metadata
from tests.support.stub_serving import (
    METADATA,
    PREDICT,
    QUEUE_FULL,
    STATUS,
    Failure,
    RefusingServing,
    SlowServing,
    StubModel,
    StubServing,
)
from tests.support.waiting import wait_until

MODEL = ModelSpec("clothing-model")
PICTURE = {"input_8": np.zeros((1, 299, 299, 3), np.float32)}
SMALL = {"input_8": np.zeros((1, 2, 2, 3), np.float32)}
UNAVAILABLE, CANCELLED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED


def predict(
    client: ModelClient,
    spec: ModelSpec = MODEL,
    *,
    inputs: dict[str, np.ndarray] = SMALL,
    seconds: float = 20.0,
    **options: Any,
) -> Prediction:
    return client.predict(spec, "serving_default", inputs, Deadline.after(seconds), **options)


@contextlib.contextmanager
def client_of(*servers: StubServing, **options: Any) -> Iterator[ModelClient]:
    client = ModelClient([server.address for server in servers], **options)
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def two_servers(first: StubServing, second: StubServing) -> Iterator[tuple[StubServing, ...]]:
    """At two addresses and one port, as behind one name."""
    first.host, second.host = "127.0.0.1", "127.0.0.2"
    with first:
        second.port = first.port
        with second:
            yield first, second


def test_a_prediction_comes_back_with_its_version() -> None:
    with StubServing({7: StubModel(scores=(0.25, -1.5))}) as server, client_of(server) as client:
        prediction = predict(client, inputs=PICTURE)
    assert prediction.version == 7
    assert prediction.outputs["dense_7"].tolist() == [[0.25, -1.5]]


def test_metadata_and_status_are_those_of_the_server() -> None:
    versions = {1: StubModel(state="END"), 2: StubModel()}
    with StubServing(versions) as server, client_of(server) as client:
        metadata = client.metadata(MODEL, Deadline.after(20))
        status = client.status("clothing-model", Deadline.after(20))
    assert metadata.version == 2
    assert set(metadata.signatures) == {"serving_default", "contract"}
    assert metadata.signatures["serving_default"].inputs["input_8"].shape == (-1, 299, 299, 3)
    assert status == (VersionStatus(2, "AVAILABLE", 0, ""), VersionStatus(1, "END", 0, ""))


def test_one_connection_serves_all_calls() -> None:
    with StubServing() as server, client_of(server) as client:
        for _ in range(5):
            predict(client)
            client.metadata(MODEL, Deadline.after(20))
        assert len(server.peers) == 1


def test_calls_are_spread_over_the_servers() -> None:
    with two_servers(StubServing(), StubServing()) as servers, client_of(*servers) as client:
        wait_until(lambda: bool(predict(client) and all(s.calls[PREDICT] for s in servers)))
        before = [server.calls[PREDICT] for server in servers]
        for _ in range(10):
            predict(client)
        after = [server.calls[PREDICT] for server in servers]
    assert [later - sooner for later, sooner in zip(after, before, strict=True)] == [5, 5]


def test_the_servers_deadline_is_what_is_left_of_ours() -> None:
    with StubServing() as server, client_of(server) as client:
        predict(client, seconds=5.0)
    (seen,) = server.deadlines
    assert 0.0 < seen <= 5.01, "gRPC writes such times in hundredths of a second, rounded up"


def test_a_server_that_is_too_slow_is_a_deadline_and_not_asked_again() -> None:
    with SlowServing(30.0) as server, client_of(server) as client:
        with pytest.raises(errors.DeadlineExceeded):
            predict(client, seconds=0.3)
        assert server.calls[PREDICT] == 1
        wait_until(lambda: server.ended_early == 1)


def test_no_time_left_is_no_call() -> None:
    with StubServing() as server, client_of(server) as client:
        with pytest.raises(errors.DeadlineExceeded):
            predict(client, seconds=0.0)
        assert not server.calls


def test_a_caller_that_hangs_up_ends_the_call_at_the_server_too() -> None:
    gone = Cancellation()
    with SlowServing(30.0) as server, client_of(server) as client:
        hung_up = meanwhile(lambda: server.calls[PREDICT] == 1, gone.set)
        with hung_up, pytest.raises(errors.CallerGone):
            predict(client, cancelled=gone)
        wait_until(lambda: server.ended_early == 1)


@contextlib.contextmanager
def meanwhile(holds: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """Once something holds, act, in another thread."""

    def run() -> None:
        wait_until(holds)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_caller_that_is_gone_already_costs_no_call() -> None:
    gone = Cancellation()
    gone.set()
    with StubServing() as server, client_of(server) as client:
        with pytest.raises(errors.CallerGone):
            predict(client, cancelled=gone)
        assert not server.calls


@pytest.mark.parametrize("code", [UNAVAILABLE, CANCELLED], ids=lambda code: code.name)
def test_a_call_that_no_server_took_is_made_again_whatever_its_size(code: grpc.StatusCode) -> None:
    heard: list[str] = []
    large = {"input_8": np.zeros((4, 299, 299, 3), np.float32)}
    failing = RefusingServing(code, "not now", times=2)
    with failing as server, client_of(server, on_retry=heard.append) as client:
        assert predict(client, inputs=large).version == 1
        assert server.calls[PREDICT] == 3
    assert heard == ["clothing-model"] * 2


def test_a_server_that_stays_unavailable_is_asked_so_many_times() -> None:
    with RefusingServing(UNAVAILABLE) as server, client_of(server, max_retries=3) as client:
        with pytest.raises(errors.ModelUnavailable) as caught:
            predict(client)
        assert server.calls[PREDICT] == 4
    assert caught.value.retry_after == 1


def test_a_full_batching_queue_is_overload_and_not_asked_again() -> None:
    details = f"{QUEUE_FULL}; task size is 1 but scheduling capacity is only 0"
    with RefusingServing(UNAVAILABLE, details) as server, client_of(server) as client:
        with pytest.raises(errors.ModelOverloaded):
            predict(client)
        assert server.calls[PREDICT] == 1


AGAIN = (UNAVAILABLE, CANCELLED)
ONCE = [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, *AGAIN)]


@pytest.mark.parametrize("code", ONCE, ids=lambda code: code.name)
def test_any_other_failure_is_an_error_of_the_tree_after_one_try(code: grpc.StatusCode) -> None:
    with RefusingServing(code, "so it is") as server, client_of(server) as client:
        with pytest.raises(errors.GatewayError) as caught:
            predict(client)
        assert server.calls[PREDICT] == 1
    assert caught.value.log_detail == f"{code.name}: so it is"


def test_a_server_that_is_gone_is_unavailable_and_found_again_when_it_is_back() -> None:
    with StubServing() as server, client_of(server) as client:
        predict(client)
        server.stop()
        with pytest.raises(errors.ModelUnavailable):
            predict(client, seconds=5.0)
        with pytest.raises(errors.ModelUnavailable, match="cannot be reached for the model"):
            client.status("clothing-model", Deadline.after(5.0))
        server.start()
        wait_until(lambda: answers(client))


def answers(client: ModelClient) -> bool:
    with contextlib.suppress(errors.ModelUnavailable):
        return predict(client).version == 1
    return False


def test_an_outage_is_not_answered_with_a_multiple_of_the_load() -> None:
    with RefusingServing(UNAVAILABLE) as server, client_of(server) as client:
        for _ in range(300):
            with pytest.raises(errors.ModelUnavailable):
                predict(client)
        assert server.calls[PREDICT] <= 300 * 1.2


def test_predictions_go_through_the_models_circuit_which_a_server_that_is_seen_half_opens() -> None:
    guards = Guards(["clothing-model"], reserve=0)
    failing = RefusingServing(UNAVAILABLE, times=FAILURES)
    with failing as server, client_of(server, guards=guards) as client:
        for _ in range(2 * FAILURES):
            with pytest.raises(errors.ModelUnavailable):
                predict(client)
        assert server.calls[PREDICT] == FAILURES
        assert client.circuit("clothing-model").state is State.OPEN
        client.status("clothing-model", Deadline.after(20))
        assert predict(client).version == 1


@pytest.mark.parametrize("length", [100_000, 1_000_000])
def test_a_failure_that_says_much_is_the_models_and_no_overload(length: int) -> None:
    failing = RefusingServing(grpc.StatusCode.INTERNAL, "x" * length)
    with failing as server, client_of(server) as client, pytest.raises(errors.ModelFailed):
        predict(client)


@pytest.mark.case("F9")
def test_an_answer_that_is_too_large_is_the_models_failure() -> None:
    large = StubModel(scores=(0.0,) * (MAX_ANSWER_BYTES // 4 + 1))
    too_large = pytest.raises(errors.ModelFailed, match="larger than this gateway reads")
    with StubServing({1: large}) as server, client_of(server) as client, too_large:
        predict(client)


@pytest.mark.case("F9")
def test_an_answer_of_more_than_grpcs_own_limit_is_read() -> None:
    large = StubModel(scores=(1.5,) * (2 * 1024 * 1024))
    with StubServing({1: large}) as server, client_of(server) as client:
        assert predict(client).outputs["dense_7"].nbytes == 8 * 1024 * 1024


def test_a_request_that_the_server_finds_too_large_is_rejected_input() -> None:
    limit = [("grpc.max_receive_message_length", 100_000)]
    too_large = pytest.raises(errors.ModelRejectedInput, match="larger")
    with StubServing(options=limit) as server, client_of(server) as client, too_large:
        predict(client, inputs=PICTURE)


def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with StubServing() as server:
        client = ModelClient(("localhost", server.port))
        assert predict(client).version == 1
        client.close()


def test_a_closed_client_says_so() -> None:
    with StubServing() as server, client_of(server) as client:
        client.close()
        with pytest.raises(errors.ModelUnavailable):
            predict(client)
        with pytest.raises(errors.ModelUnavailable):
            client.status("clothing-model", Deadline.after(5))


def test_closing_ends_the_calls_under_way() -> None:
    with SlowServing(30.0) as server, client_of(server) as client:
        closed = meanwhile(lambda: server.calls[PREDICT] == 1, client.close)
        with closed, pytest.raises(errors.ModelUnavailable):
            predict(client)
        assert server.calls[PREDICT] == 1


OLD = StubModel(scores=(1.0,))
NEW = StubModel(scores=(2.0,))
CALLS: dict[str, Callable[[ModelClient, ModelSpec], Prediction | Metadata]] = {
    "predict": lambda client, spec: predict(client, spec, inputs=PICTURE),
    "metadata": lambda client, spec: client.metadata(spec, Deadline.after(20)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "spec", [ModelSpec("clothing-model", 2), ModelSpec("clothing-model", label="new")]
)
def test_a_version_that_only_one_server_has_is_answered_by_that_one(
    call: Callable[[ModelClient, ModelSpec], Prediction | Metadata], spec: ModelSpec
) -> None:
    old, new = StubServing({1: OLD}), StubServing({2: NEW}, labels={"new": 2})
    with two_servers(old, new) as servers, client_of(*servers) as client:
        wait_until(lambda: bool(predict(client) and all(s.calls[PREDICT] for s in servers)))
        assert [call(client, spec).version for _ in range(20)] == [2] * 20


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_version_that_no_server_has_is_not_found(
    call: Callable[[ModelClient, ModelSpec], Prediction | Metadata],
) -> None:
    pair = two_servers(StubServing({1: OLD}), StubServing({2: NEW}))
    with pair as servers, client_of(*servers) as client:
        with pytest.raises(errors.ModelNotFound, match="version 7") as caught:
            call(client, ModelSpec("clothing-model", 7))
        assert caught.value.version_named
        with pytest.raises(errors.ModelNotFound, match="'shoes'") as caught:
            call(client, ModelSpec("shoes"))
        assert not caught.value.version_named
        with pytest.raises(errors.ModelNotFound):
            client.status("shoes", Deadline.after(20))


def test_a_version_that_an_unreachable_server_may_have_is_unavailable() -> None:
    with two_servers(StubServing({1: OLD}), StubServing({2: NEW})) as servers:
        servers[1].stop()
        with client_of(*servers) as client:
            with pytest.raises(errors.ModelUnavailable, match="Not every server"):
                predict(client, ModelSpec("clothing-model", 2))
            assert predict(client, ModelSpec("clothing-model", 1)).version == 1


def test_a_version_that_moves_between_the_servers_is_followed() -> None:
    """The one that said it has the version has unloaded it when the call comes."""

    class Forgetful(StubServing):
        def answer(self, method: str, request: bytes, context: Any) -> bytes:
            answer = super().answer(method, request, context)
            if method == METADATA and 2 in self.versions:
                other.versions[2] = self.versions.pop(2)
            return answer

    other = StubServing({1: OLD})
    with two_servers(Forgetful({1: OLD, 2: NEW}), other) as servers, client_of(*servers) as client:
        for _ in range(4):
            assert predict(client, ModelSpec("clothing-model", 2)).version == 2


def test_looking_for_a_version_ends_with_the_deadline() -> None:
    slow = StubServing({2: NEW}, delay=30.0)
    pair = two_servers(StubServing({1: OLD}), slow)
    too_late = pytest.raises(errors.DeadlineExceeded)
    with pair as servers, client_of(*servers) as client, too_late:
        predict(client, ModelSpec("clothing-model", 2), seconds=0.5)


def test_looking_for_a_version_ends_when_the_caller_hangs_up() -> None:
    gone = Cancellation()
    slow = StubServing({2: NEW}, delay=30.0)
    pair = two_servers(StubServing({1: OLD}), slow)
    hung_up = meanwhile(lambda: slow.calls.total() > 0, gone.set)
    unheard = pytest.raises(errors.CallerGone)
    with pair as servers, client_of(*servers) as client, hung_up, unheard:
        predict(client, ModelSpec("clothing-model", 2), cancelled=gone)


def test_one_machine_behind_a_name_need_not_listen_in_both_families() -> None:
    with StubServing({1: OLD}) as server:
        both = (("127.0.0.1", server.port), ("::1", server.port))
        client = ModelClient(("localhost", server.port), lookup=lambda _: both)
        with pytest.raises(errors.ModelNotFound):
            predict(client, ModelSpec("clothing-model", 2))
        assert client.status("clothing-model", Deadline.after(20))[0].version == 1
        client.close()


def test_status_is_the_best_of_what_the_servers_say() -> None:
    loading = dataclasses.replace(NEW, state="LOADING")
    pair = two_servers(StubServing({1: OLD, 2: loading}), StubServing({2: NEW}))
    with pair as servers, client_of(*servers) as client:
        status = client.status("clothing-model", Deadline.after(20))
        assert [(seen.version, seen.state) for seen in status] == [
            (2, "AVAILABLE"),
            (1, "AVAILABLE"),
        ]
        servers[1].stop()
        status = client.status("clothing-model", Deadline.after(20))
        assert [(seen.version, seen.state) for seen in status] == [
            (2, "LOADING"),
            (1, "AVAILABLE"),
        ]


def test_status_passes_a_servers_failure_on() -> None:
    failing = StubServing(failure=Failure(grpc.StatusCode.INTERNAL, methods=frozenset({STATUS})))
    with failing as server, client_of(server) as client, pytest.raises(errors.ModelFailed):
        client.status("clothing-model", Deadline.after(20))
