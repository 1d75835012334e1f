"""Which version computes, which contract makes the tensor, and what is said when they differ."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gateway.app import join_parts
from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import (
    CallerGone,
    ContractMismatch,
    DeadlineExceeded,
    GatewayError,
    ModelFailed,
    ModelNotFound,
    ModelRejectedInput,
    ModelUnavailable,
    OriginTimeout,
    UndecodableImage,
)
from gateway.metrics import Metrics
from gateway.model_client.client import Metadata, ModelSpec
from gateway.scoring.contract import Preprocessing
from gateway.scoring.contracts import ContractStore
from gateway.scoring.first_start import FirstStart
from gateway.scoring.parts import URL, Context, Picture
from gateway.scoring.score import Scored, Scorer
from tests.support.fake_serving import (
    FakeServing,
    FakeVersion,
    contract_file,
    decode_gray,
    fetch_gray,
    gray,
    one_server,
    parts,
    settings,
)

CLOTHING = ModelSpec("clothing-model")


def context(seconds: float = 5.0) -> Context:
    return Context(Deadline.after(seconds))


def score(
    scorer: Scorer, *pictures: Picture, spec: ModelSpec = CLOTHING, seconds: float = 5.0
) -> Scored:
    return scorer.score(pictures, spec, context(seconds))


def rows(scored: Scored) -> list[list[float]]:
    arrays = [row for row in scored.rows if isinstance(row, np.ndarray)]
    assert len(arrays) == len(scored.rows)
    return [[float(value) for value in row] for row in arrays]


def shapes(serving: FakeServing) -> list[tuple[int, ...]]:
    return [shape for _, _, shape in serving.predictions]


def test_a_picture_is_scored_under_the_contract_of_the_version_that_serves() -> None:
    serving = one_server(v1=FakeVersion(), v2=FakeVersion(scaling="tf", offset=10))
    scored = score(parts(serving).scorer, gray(255))
    assert scored.version == 2
    assert rows(scored) == [[11.0, 12.0, 13.0]]


def test_a_version_that_is_named_is_the_one_that_answers() -> None:
    serving = one_server(v1=FakeVersion(), v2=FakeVersion(scaling="tf", offset=10))
    scored = score(parts(serving).scorer, gray(200), spec=ModelSpec("clothing-model", version=1))
    assert scored.version == 1
    assert rows(scored) == [[200.0, 201.0, 202.0]]


def test_a_label_is_followed_when_it_moves() -> None:
    serving = one_server(v1=FakeVersion(side=4), v2=FakeVersion(side=6, offset=10))
    serving.labels["stable"] = 1
    scorer = parts(serving).scorer
    spec = ModelSpec("clothing-model", label="stable")
    assert score(scorer, gray(0), spec=spec).version == 1
    serving.labels["stable"] = 2
    moved = score(scorer, gray(0), spec=spec)
    assert (moved.version, rows(moved)) == (2, [[10.0, 11.0, 12.0]])


@pytest.mark.parametrize("spec", [{"version": 7}, {"label": "unknown"}])
def test_an_unknown_version_or_label_is_not_found(spec: dict[str, int | str]) -> None:
    scorer = parts(one_server(v1=FakeVersion())).scorer
    with pytest.raises(ModelNotFound):
        score(scorer, gray(0), spec=ModelSpec("clothing-model", **spec))  # type: ignore[arg-type]


def test_a_new_version_of_another_size_makes_the_tensor_again() -> None:
    serving = one_server(v1=FakeVersion(side=4))
    scorer = parts(serving).scorer
    score(scorer, gray(0))
    serving.servers[0]["clothing-model"][2] = FakeVersion(side=6, offset=10)
    scored = score(scorer, gray(0))
    assert (scored.version, rows(scored)) == (2, [[10.0, 11.0, 12.0]])
    assert shapes(serving) == [(1, 4, 4, 3), (1, 4, 4, 3), (1, 6, 6, 3)]


def test_a_new_version_of_other_scaling_does_not_answer_for_the_old_tensor() -> None:
    serving = one_server(v1=FakeVersion(scaling="none"))
    scorer = parts(serving).scorer
    score(scorer, gray(0))
    serving.servers[0]["clothing-model"][2] = FakeVersion(
        scaling="tf", labels=("pants", "hat", "dress")
    )
    scored = score(scorer, gray(255))
    assert rows(scored) == [[1.0, 2.0, 3.0]]
    assert scored.contract.labels == ("pants", "hat", "dress")


def test_a_new_version_of_the_same_contract_answers_at_once() -> None:
    serving = one_server(v1=FakeVersion())
    scorer = parts(serving).scorer
    score(scorer, gray(0))
    serving.servers[0]["clothing-model"][2] = FakeVersion(offset=10)
    scored = score(scorer, gray(0))
    assert (scored.version, rows(scored)) == (2, [[10.0, 11.0, 12.0]])
    assert len(serving.predictions) == 2


def test_a_rollback_is_followed() -> None:
    serving = one_server(v1=FakeVersion(), v2=FakeVersion(side=6))
    scorer = parts(serving).scorer
    assert score(scorer, gray(0)).version == 2
    del serving.servers[0]["clothing-model"][2]
    assert score(scorer, gray(0)).version == 1


@pytest.mark.parametrize("side", [4, 6])
def test_two_versions_behind_one_name_never_mix(side: int) -> None:
    one = FakeVersion(labels=("dress", "hat"), scaling="none")
    two = FakeVersion(labels=("hat", "dress"), scaling="tf", side=side, offset=100)
    serving = FakeServing([{"clothing-model": {1: one}}, {"clothing-model": {2: two}}])
    scorer = parts(serving).scorer
    seen = set()
    for _ in range(20):
        scored = score(scorer, gray(255))
        expected = {1: (("dress", "hat"), [255.0, 256.0]), 2: (("hat", "dress"), [101.0, 102.0])}
        assert scored.version is not None
        assert (scored.contract.labels, rows(scored)[0]) == expected[scored.version]
        seen.add(scored.version)
    assert seen == {1, 2}


def test_a_list_is_one_call_and_keeps_its_order() -> None:
    serving = one_server(v1=FakeVersion())
    scored = score(parts(serving).scorer, gray(3), gray(1), gray(2))
    assert [row[0] for row in rows(scored)] == [3.0, 1.0, 2.0]
    assert shapes(serving) == [(3, 4, 4, 3)]


def test_a_bad_picture_has_its_own_error_and_costs_the_others_nothing() -> None:
    serving = one_server(v1=FakeVersion())
    first, second, third = score(parts(serving).scorer, gray(1), b"no picture", gray(2)).rows
    assert isinstance(second, UndecodableImage)
    assert isinstance(first, np.ndarray)
    assert isinstance(third, np.ndarray)
    assert (first[0], third[0]) == (1.0, 2.0)
    assert shapes(serving) == [(2, 4, 4, 3)]


def test_a_list_without_a_good_picture_costs_the_model_nothing() -> None:
    serving = one_server(v1=FakeVersion())
    scored = score(parts(serving).scorer, b"no picture", b"neither")
    assert all(isinstance(row, UndecodableImage) for row in scored.rows)
    assert scored.version is None
    assert serving.predictions == []


def test_urls_of_a_list_are_fetched_and_keep_their_order() -> None:
    serving = one_server(v1=FakeVersion())
    urls: Sequence[Picture] = [URL(f"https://pictures.example/{level}") for level in range(9)]
    scored = score(parts(serving).scorer, *urls)
    assert [row[0] for row in rows(scored)] == list(range(9))


def test_pictures_that_are_not_fetched_in_time_are_not_waited_for_one_after_the_other() -> None:
    """All threads are busy past the deadline: forty pictures wait a quarter second, together."""
    ended = threading.Event()

    def fetch(url: str, deadline: Deadline, cancelled: threading.Event | None = None) -> bytes:
        ended.wait(20)
        return gray(1)

    chosen = settings(FETCH_THREADS="1", FETCH_TIMEOUT="0.1")
    serving = one_server(v1=FakeVersion())
    scorer = join_parts(chosen, Metrics(), serving, fetch, decode_gray, FirstStart()).scorer
    urls: Sequence[Picture] = [URL(f"https://pictures.example/{level}") for level in range(40)]
    asked = context(5.0)
    try:
        scored = scorer.score(urls, CLOTHING, asked)
    finally:
        ended.set()
    assert all(isinstance(row, OriginTimeout) for row in scored.rows)
    assert not asked.deadline.expired()


@pytest.mark.parametrize(("batch", "calls"), [(1, 3), (2, 2), (4, 1)])
def test_a_model_of_fixed_batch_size_is_called_with_that_size(batch: int, calls: int) -> None:
    serving = one_server(v1=FakeVersion(batch=batch))
    scored = score(parts(serving).scorer, gray(1), gray(2), gray(3))
    assert [row[0] for row in rows(scored)] == [1.0, 2.0, 3.0]
    assert shapes(serving) == [(batch, 4, 4, 3)] * calls


def test_a_batch_that_the_server_finds_too_large_is_sent_singly() -> None:
    serving = one_server(v1=FakeVersion(largest_batch=2))
    scored = score(parts(serving).scorer, gray(1), gray(2), gray(3))
    assert [row[0] for row in rows(scored)] == [1.0, 2.0, 3.0]


def test_single_calls_of_one_list_are_answered_by_one_version() -> None:
    one, two = FakeVersion(batch=1), FakeVersion(batch=1, offset=1000)
    serving = FakeServing([{"clothing-model": {1: one}}, {"clothing-model": {2: two}}])
    scorer = parts(serving).scorer
    for _ in range(4):
        scores = [row[0] for row in rows(score(scorer, gray(1), gray(2), gray(3)))]
        assert scores in ([1.0, 2.0, 3.0], [1001.0, 1002.0, 1003.0])


def test_a_model_that_the_server_lost_is_unavailable_when_no_version_was_named() -> None:
    serving = one_server(v1=FakeVersion())
    scorer = parts(serving).scorer
    score(scorer, gray(0))
    serving.servers[0].clear()
    with pytest.raises(ModelUnavailable):
        score(scorer, gray(0))


def test_a_model_that_is_still_loading_is_unavailable_and_says_so() -> None:
    scorer = parts(one_server(v3=FakeVersion(state="LOADING"))).scorer
    with pytest.raises(ModelUnavailable, match="version 3 is LOADING"):
        score(scorer, gray(0))


def test_a_tensor_that_the_right_version_refuses_is_our_own_mistake() -> None:
    serving = one_server(v1=FakeVersion(largest_batch=0))
    with pytest.raises(ModelRejectedInput):
        score(parts(serving).scorer, gray(0))


UNFIT = """{"format": 1, "labels": ["a", "b"],
"preprocessing": {"height": 4, "width": 4, "scaling": "none"}}"""


def test_a_contract_that_does_not_fit_names_both_sides_and_older_versions_still_answer() -> None:
    serving = one_server(v1=FakeVersion(), v2=FakeVersion(contract=UNFIT))
    scorer = parts(serving).scorer
    with pytest.raises(ContractMismatch, match=r"2 labels.*3"):
        score(scorer, gray(0))
    assert score(scorer, gray(0), spec=ModelSpec("clothing-model", version=1)).version == 1


def test_a_model_without_a_contract_takes_it_from_a_file(tmp_path: Path) -> None:
    version = FakeVersion(carries_contract=False)
    path = contract_file(tmp_path, version)
    scorer = parts(one_server(v1=version), CONTRACT_FILES=f"clothing-model={path}").scorer
    assert rows(score(scorer, gray(7))) == [[7.0, 8.0, 9.0]]


def test_a_model_without_any_contract_says_which_setting_names_one() -> None:
    scorer = parts(one_server(v1=FakeVersion(carries_contract=False))).scorer
    with pytest.raises(ContractMismatch, match="CONTRACT_FILES"):
        score(scorer, gray(0))


def test_a_contract_is_asked_for_once() -> None:
    serving = one_server(v1=FakeVersion())
    scorer = parts(serving).scorer
    for _ in range(5):
        score(scorer, gray(0))
    assert [call for call, _ in serving.calls].count("metadata") == 1
    assert len(serving.predictions) == 5


def test_a_picture_is_decoded_once_for_each_way_to_make_it() -> None:
    serving = FakeServing(
        [{"clothing-model": {1: FakeVersion(side=4)}}, {"clothing-model": {2: FakeVersion(side=6)}}]
    )
    decoded: list[int] = []

    def decode(
        data: bytes,
        preprocessing: Preprocessing,
        deadline: Deadline,
        cancelled: Cancellation | None = None,
    ) -> np.ndarray:
        decoded.append(preprocessing.height)
        return decode_gray(data, preprocessing, deadline)

    chosen = settings()
    scorer = join_parts(chosen, Metrics(), serving, fetch_gray, decode, FirstStart()).scorer
    for _ in range(20):
        before = len(decoded)
        score(scorer, gray(1))
        assert sorted(decoded[before:]) == sorted(set(decoded[before:]))
    assert len(serving.predictions) > 20


class SlowServing:
    """Answers for its metadata only once it is let."""

    def __init__(self, serving: FakeServing) -> None:
        self.let = threading.Event()
        self.asked = threading.Event()
        self.predict, self.status, self._metadata = (
            serving.predict,
            serving.status,
            serving.metadata,
        )
        self.circuit = serving.circuit

    def metadata(self, spec: ModelSpec, deadline: Deadline) -> Metadata:
        self.asked.set()
        assert self.let.wait(5)
        return self._metadata(spec, deadline)


def test_a_contract_that_many_want_at_once_is_asked_for_once() -> None:
    serving = one_server(v1=FakeVersion())
    slow = SlowServing(serving)
    store = ContractStore(slow, {})
    with ThreadPoolExecutor(8) as callers:
        wanted = [callers.submit(store.contract_for, CLOTHING, Deadline.after(5)) for _ in range(8)]
        assert slow.asked.wait(5)
        with pytest.raises(DeadlineExceeded):
            store.contract_for(CLOTHING, Deadline.after(0.02))
        slow.let.set()
        assert len({id(future.result(5)) for future in wanted}) == 1
    assert [call for call, _ in serving.calls].count("metadata") == 1


def test_a_contract_that_could_not_be_asked_for_is_asked_for_again() -> None:
    serving = one_server(v1=FakeVersion(), v2=FakeVersion())
    scorer = parts(serving).scorer
    named = ModelSpec("clothing-model", version=1)
    serving.failure = ModelUnavailable("It is away.")
    with pytest.raises(ModelUnavailable):
        score(scorer, gray(0), spec=named)
    serving.failure = None
    assert score(scorer, gray(0), spec=named).version == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_the_models_failure(value: float) -> None:
    outputs = np.array([[0.0, value, 1.0]], np.float32)
    (row,) = score(parts(one_server(v1=FakeVersion(outputs=outputs))).scorer, gray(0)).rows
    assert isinstance(row, ModelFailed)


def test_not_finite_scores_of_one_picture_leave_the_others_their_scores() -> None:
    outputs = np.array([[0, 1, 2], [0, np.nan, 1]], np.float32)
    scorer = parts(one_server(v1=FakeVersion(outputs=outputs))).scorer
    good, bad = score(scorer, gray(0), gray(0)).rows
    assert isinstance(good, np.ndarray)
    assert isinstance(bad, ModelFailed)


@pytest.mark.parametrize(
    "outputs",
    [np.zeros((1, 2), np.float32), np.zeros((3,), np.float32), np.array([[b"a", b"b", b"c"]])],
)
def test_an_answer_of_another_form_than_the_contract_says_is_the_models_failure(
    outputs: np.ndarray,
) -> None:
    scorer = parts(one_server(v1=FakeVersion(outputs=outputs))).scorer
    with pytest.raises(ModelFailed):
        score(scorer, gray(0))


def test_nothing_is_done_for_a_caller_that_hung_up() -> None:
    serving = one_server(v1=FakeVersion())
    gone = context()
    gone.cancelled.set()
    with pytest.raises(CallerGone):
        parts(serving).scorer.score([gray(0)], CLOTHING, gone)
    assert serving.predictions == []


def test_nothing_is_sent_once_the_time_is_up() -> None:
    serving = one_server(v1=FakeVersion())
    with pytest.raises(DeadlineExceeded):
        score(parts(serving).scorer, gray(0), seconds=0)
    assert serving.predictions == []


def test_a_blank_picture_proves_a_version() -> None:
    serving = one_server(v1=FakeVersion())
    made = parts(serving)
    contract = made.contracts.contract_for(CLOTHING, Deadline.after(5))
    made.scorer.probe(contract, Deadline.after(5))
    assert serving.predictions == [
        (ModelSpec("clothing-model", version=1), "serving_default", (1, 4, 4, 3))
    ]


@pytest.mark.parametrize("failure", [ModelFailed("It failed."), ModelUnavailable("It is away.")])
def test_failures_of_the_model_server_pass_through(failure: GatewayError) -> None:
    serving = one_server(v1=FakeVersion())
    scorer = parts(serving).scorer
    score(scorer, gray(0))
    serving.failure = failure
    with pytest.raises(type(failure)):
        score(scorer, gray(0))
