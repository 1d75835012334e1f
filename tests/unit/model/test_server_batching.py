"""Calls are joined into batches and taken apart again, and a full queue says so."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest

from model.server.batching import BatchingSession, BatchScheduler
from model.server.batching_parameters import BatchingOptions, batching_options
from model.server.errors import ServingError
from model.server.messages import new_message
from model.server.metrics import Metrics
from tests.support.serving_reference import row

SECONDS = 10.0


@dataclass
class FakeSession:
    """Answers `x + 1` as y and the row sums as s; each run waits for `gate`."""

    runs: list[dict[str, np.ndarray]] = field(default_factory=list)
    timeouts: list[float | None] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    failure: ServingError | None = None
    closed: bool = False

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout_seconds: float | None = None,
    ) -> list[Any]:
        self.runs.append(dict(feeds))
        self.timeouts.append(timeout_seconds)
        self.entered.release()
        assert self.gate.wait(SECONDS)
        if self.failure is not None:
            raise self.failure
        x = feeds["x"]
        values = {"y": x + 1, "s": x.reshape(len(x), -1).sum(axis=1), "scalar": x.sum(), "z": x[:1]}
        return [values[name] for name in fetches]

    def close(self) -> None:
        self.closed = True


@dataclass
class Batched:
    """A batching session on one thread, and callers."""

    session: BatchingSession
    inner: FakeSession
    metrics: Metrics
    callers: ThreadPoolExecutor

    def call(
        self, x: Any, fetches: Sequence[str] = ("y",), timeout_seconds: float | None = None
    ) -> "Future[list[Any]]":
        feeds = {"x": np.asarray(x, np.float32)}
        return self.callers.submit(self.session.run, feeds, fetches, timeout_seconds)

    def call_and_wait_until_queued(self, x: Any, *arguments: Any) -> "Future[list[Any]]":
        before = self.input_count()
        future = self.call(x, *arguments)
        self.wait_until(lambda: self.input_count() > before)
        return future

    def occupy(self) -> "Future[list[Any]]":
        """Keep the thread busy until the gate opens."""
        future = self.call([[0.0]])
        assert self.inner.entered.acquire(timeout=SECONDS)
        return future

    def input_count(self) -> int:
        return self.count("input_batch_size")

    def count(self, name: str) -> int:
        start = f":tensorflow:serving:batching_session:{name}_count"
        lines = [line for line in self.metrics.text().splitlines() if line.startswith(start)]
        return sum(int(line.rpartition(" ")[2]) for line in lines)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            threading.Event().wait(0.01)
        raise AssertionError("it did not happen")


@contextmanager
def batched(threads: int = 1, **options: Any) -> Iterator[Batched]:
    scheduler = BatchScheduler("batch_threads", threads)
    scheduler.start()
    metrics, inner = Metrics(), FakeSession()
    session = BatchingSession(inner, scheduler, BatchingOptions(**options), metrics)
    with ThreadPoolExecutor(32) as callers:
        try:
            yield Batched(session, inner, metrics, callers)
        finally:
            inner.gate.set()
    session.close()
    scheduler.stop()
    assert inner.closed


def result(future: "Future[list[Any]]") -> list[Any]:
    return [value.tolist() for value in future.result(SECONDS)]


def error(future: "Future[list[Any]]") -> tuple[str, str]:
    with pytest.raises(ServingError) as caught:
        future.result(SECONDS)
    return caught.value.code.name, caught.value.message


def test_calls_that_gathered_run_together_and_each_gets_its_rows() -> None:
    with batched() as batch:
        first = batch.occupy()
        others = [batch.call_and_wait_until_queued([[number], [number]]) for number in (1, 2, 3)]
        batch.inner.gate.set()
        assert result(first) == [[[1.0]]]
        assert [result(other) for other in others] == [
            [[[number + 1.0], [number + 1.0]]] for number in (1, 2, 3)
        ]
        assert [len(run["x"]) for run in batch.inner.runs] == [1, 6]
        assert (
            batch.metrics.counter_value("/tensorflow/serving/batching_session/wrapped_run_count")
            == 2
        )


def test_outputs_come_in_the_order_asked_for_even_twice() -> None:
    with batched() as batch:
        batch.inner.gate.set()
        assert result(batch.call([[1, 2]], ("y", "s", "y"))) == [[[2, 3]], [3], [[2, 3]]]


def test_a_full_batch_does_not_wait_for_its_time() -> None:
    with batched(max_batch_size=2, timeout_seconds=3600) as batch:
        batch.inner.gate.set()
        futures = [batch.call([[1.0]]) for _ in range(2)]
        assert [result(future) for future in futures] == [[[[2.0]]]] * 2


def test_a_batch_that_is_not_full_waits_for_its_time() -> None:
    with batched(timeout_seconds=0.05) as batch:
        batch.inner.gate.set()
        assert result(batch.call([[1.0]])) == [[[2.0]]]


def test_batches_are_padded_up_to_an_allowed_size() -> None:
    assert row("batching.allowed-batch-sizes")
    with batched(allowed_sizes=(1, 4, 8), max_batch_size=8) as batch:
        batch.occupy()
        futures = [batch.call_and_wait_until_queued([[number]]) for number in (5, 6, 7)]
        batch.inner.gate.set()
        assert [result(future) for future in futures] == [[[[6.0]]], [[[7.0]]], [[[8.0]]]]
        assert batch.inner.runs[1]["x"].tolist() == [[5], [6], [7], [7]]
        page = batch.metrics.text()
    assert ':padding_size_sum{execution_batch_size="4"} 1\n' in page
    assert ":processed_batch_size_sum{} 5\n" in page


def test_a_full_queue_is_unavailable_and_names_its_numbers_where_large_calls_are_split() -> None:
    options = {"max_batch_size": 4, "split_large": True, "max_execution_size": 2}
    with batched(max_enqueued=1, **options) as batch:
        first = batch.occupy()
        second = batch.call_and_wait_until_queued([[1.0]])
        expected = row("errors.batch-queue-full")
        code, text = error(batch.call([[1.0], [2.0]]))
        expected.check(code, text, N=2, M=1)
        assert text.endswith(
            "(num_enqueued_batches=1, max_enqueued_batches=1, open_batch_size=1, "
            "max_execution_batch_size=2)"
        )
        batch.inner.gate.set()
        assert result(first)
        assert result(second)


def test_a_full_queue_is_unavailable_where_calls_stay_whole() -> None:
    assert row("batching.max-enqueued-batches").more["default"] == 10
    assert BatchingOptions().max_enqueued == 10
    with batched(max_batch_size=1, max_enqueued=1) as batch:
        batch.occupy()
        batch.call_and_wait_until_queued([[1.0]])
        assert error(batch.call([[1.0]])) == (
            "UNAVAILABLE",
            "The batch scheduling queue to which this task was submitted is full; currently 1 "
            "batches enqueued and max_enqueued_batches is 1",
        )


def test_a_call_larger_than_a_batch_is_refused() -> None:
    assert row("batching.max-batch-size").more["default"] == BatchingOptions().max_batch_size
    with batched(max_batch_size=2) as batch:
        row("errors.batch-too-large").check(*error(batch.call([[1.0]] * 3)), N=3, M=2)


def test_a_large_call_is_split_into_batches_and_joined_again() -> None:
    assert row("batching.enable-large-batch-splitting")
    assert row("batching.max-execution-batch-size")
    options = {"max_batch_size": 10, "split_large": True, "max_execution_size": 3}
    with batched(max_enqueued=10, **options) as batch:
        batch.occupy()
        small = batch.call_and_wait_until_queued([[0.0]])
        large = batch.call_and_wait_until_queued([[float(number)] for number in range(7)])
        batch.inner.gate.set()
        assert result(small) == [[[1.0]]]
        assert result(large) == [[[number + 1.0] for number in range(7)]]
        assert [len(run["x"]) for run in batch.inner.runs] == [1, 3, 3, 2]


def test_a_call_whose_time_ran_out_in_the_queue_is_not_run() -> None:
    with batched() as batch:
        batch.occupy()
        late = batch.call_and_wait_until_queued([[1.0]], ("y",), 0.01)
        row("errors.batch-expired").check(*error(late))
        batch.inner.gate.set()
        batch.wait_until(lambda: batch.count("queuing_latency") == 2)
        assert len(batch.inner.runs) == 1


def test_a_call_gives_up_when_its_time_is_over_before_its_batch_is_due() -> None:
    with batched(timeout_seconds=3600) as batch:
        row("errors.batch-expired").check(*error(batch.call([[1.0]], ("y",), 0.05)))


def test_a_batch_has_the_time_of_its_most_patient_caller() -> None:
    with batched() as batch:
        batch.occupy()
        batch.call_and_wait_until_queued([[1.0]], ("y",), 20.0)
        batch.call_and_wait_until_queued([[1.0]], ("y",), 50.0)
        batch.inner.gate.set()
        assert batch.inner.entered.acquire(timeout=SECONDS)
        [_, timeout] = batch.inner.timeouts
        assert timeout is not None
        assert 20 < timeout <= 50


def test_a_failing_run_fails_every_call_of_its_batch() -> None:
    with batched() as batch:
        first = batch.occupy()
        second = batch.call_and_wait_until_queued([[1.0]])
        batch.inner.failure = ServingError(grpc.StatusCode.DATA_LOSS, "gone")
        batch.inner.gate.set()
        assert error(first) == error(second) == ("DATA_LOSS", "gone")


def test_lengths_that_differ_are_refused_without_padding() -> None:
    with batched() as batch:
        batch.occupy()
        futures = [batch.call_and_wait_until_queued(x) for x in ([[1.0]], [[1.0, 2.0]])]
        batch.inner.gate.set()
        for future in futures:
            row("errors.batch-ragged").check(*error(future), X="x")


def test_lengths_that_differ_are_evened_with_each_calls_first_value() -> None:
    assert row("batching.pad-variable-length-inputs")
    with batched(pad_lengths=True) as batch:
        batch.occupy()
        short = batch.call_and_wait_until_queued([[3.0, 4.0]])
        batch.call_and_wait_until_queued([[5.0, 6.0, 7.0]])
        batch.inner.gate.set()
        assert result(short) == [[[4.0, 5.0, 4.0]]]
        assert batch.inner.runs[1]["x"].tolist() == [[3, 4, 3], [5, 6, 7]]


@pytest.mark.parametrize(
    ("x", "fetch", "expected"),
    [
        ([[1.0]], "scalar", ("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions")),
        (
            [[1.0], [2.0]],
            "z",
            (
                "FAILED_PRECONDITION",
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the input tensors",
            ),
        ),
        (
            1.0,
            "y",
            (
                "INVALID_ARGUMENT",
                "Batching Run() input tensors must have at least one dimension",
            ),
        ),
    ],
)
def test_what_has_no_rows_cannot_be_batched(x: Any, fetch: str, expected: tuple[str, str]) -> None:
    with batched() as batch:
        batch.inner.gate.set()
        assert error(batch.call(x, (fetch,))) == expected


def test_inputs_of_different_sizes_cannot_be_batched() -> None:
    with batched() as batch, pytest.raises(ServingError, match="equal 0th-dimension size"):
        batch.session.run({"x": np.zeros(1), "z": np.zeros(2)}, ["y"])
    with batched() as batch, pytest.raises(ServingError, match="at least one input tensor"):
        batch.session.run({}, ["y"])


def test_runs_that_fetch_other_tensors_are_not_joined() -> None:
    with batched() as batch:
        batch.occupy()
        futures = [batch.call_and_wait_until_queued([[1.0]], (name,)) for name in ("y", "s")]
        batch.inner.gate.set()
        assert [result(future) for future in futures] == [[[[2.0]]], [[1.0]]]
        assert [len(run["x"]) for run in batch.inner.runs] == [1, 1, 1]


def test_many_callers_on_several_threads_get_their_own_rows() -> None:
    with batched(threads=3, max_batch_size=8, timeout_seconds=0.001, max_enqueued=1000) as batch:
        batch.inner.gate.set()
        futures = [batch.call([[float(number)]]) for number in range(500)]
        assert [result(future) for future in futures] == [[[[n + 1.0]]] for n in range(500)]


def parameters(**values: Any) -> Any:
    message = new_message("BatchingParameters")
    for name, value in values.items():
        if isinstance(value, list):
            getattr(message, name).extend(value)
        elif name == "pad_variable_length_inputs":
            setattr(message, name, value)
        else:
            getattr(message, name).value = value
    return message


def test_a_file_without_values_has_the_defaults() -> None:
    assert row("batching.batch-timeout-micros").more.get("default") in (0, None)
    assert batching_options(parameters()) == BatchingOptions()
    assert batching_options(parameters(max_enqueued_batches=0)).max_enqueued == 1


def test_every_parameter_is_read() -> None:
    options = batching_options(
        parameters(
            max_batch_size=8,
            batch_timeout_micros=1500,
            max_enqueued_batches=3,
            allowed_batch_sizes=[2, 8],
            pad_variable_length_inputs=True,
            enable_large_batch_splitting=True,
            max_execution_batch_size=4,
        )
    )
    assert options == BatchingOptions(8, 0.0015, 3, (2, 8), True, True, 4)
    assert [options.padded_size(size) for size in (1, 2, 3, 8, 9)] == [2, 2, 8, 8, 9]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"allowed_batch_sizes": [2, 4], "max_batch_size": 8},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; "
            "expected 8",
        ),
        ({"allowed_batch_sizes": [4, 2, 8], "max_batch_size": 8}, "must be positive and incr"),
        ({"max_batch_size": 0}, "input_batch_size_limit must be positive; was 0"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
        (
            {"max_enqueued_batches": 0, "enable_large_batch_splitting": True},
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            {
                "max_batch_size": 2,
                "max_execution_batch_size": 4,
                "enable_large_batch_splitting": True,
            },
            "input_batch_size_limit must be greater than or equal to max_execution_batch_size",
        ),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ServingError) as caught:
        batching_options(parameters(**values))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert said in caught.value.message


def test_the_longest_time_that_a_file_can_say_is_waited_for() -> None:
    with batched(timeout_seconds=2**63 / 1e6, max_batch_size=2) as batch:
        batch.inner.gate.set()
        first = batch.call_and_wait_until_queued([[1.0]])
        assert result(batch.call([[2.0]])) == [[[3.0]]]
        assert result(first) == [[[2.0]]]


def test_a_scheduler_needs_a_thread() -> None:
    with pytest.raises(ServingError, match="num_batch_threads must be positive; was 0"):
        BatchScheduler("batch_threads", 0)
