import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import ModelFailed, ModelOverloaded, ModelUnavailable
from gateway.model_client import retries
from gateway.model_client.channel import Question
from gateway.model_client.failures import Unreachable
from gateway.model_client.guards import RetryBudget
from gateway.model_client.messages import ModelSpec
from gateway.model_client.retries import Retries

RESERVE = 16


def question(seconds: float = 60.0, cancelled: Cancellation | None = None) -> Question:
    spec = ModelSpec("clothing-model")
    return Question("/path", b"request", spec, Deadline.after(seconds), cancelled or Cancellation())


class Server:
    """Fails the first so many calls."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or Unreachable("gone")
        self.calls = 0

    def __call__(self, _: Question) -> bytes:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return b"answer"


def never_waits(tries: int) -> float:
    return 0.0


def retries_of(
    heard: list[str], max_retries: int = 2, pause: Callable[[int], float] = never_waits
) -> Retries:
    return Retries(max_retries, RetryBudget(RESERVE), heard.append, pause)


def test_a_call_that_met_no_server_is_repeated_and_counted_by_model() -> None:
    heard: list[str] = []
    server = Server(2)
    assert retries_of(heard).run(server, question()) == b"answer"
    assert heard == ["clothing-model"] * 2


def test_after_the_last_try_the_failure_is_raised() -> None:
    server = Server(99)
    with pytest.raises(ModelUnavailable):
        retries_of([]).run(server, question())
    assert server.calls == 3


def test_no_retries_is_one_try() -> None:
    server = Server(99)
    with pytest.raises(ModelUnavailable):
        retries_of([], max_retries=0).run(server, question())
    assert server.calls == 1


@pytest.mark.parametrize("error", [ModelOverloaded(""), ModelFailed(""), ModelUnavailable("")])
def test_other_failures_are_not_repeated(error: Exception) -> None:
    server = Server(1, error)
    with pytest.raises(type(error)):
        retries_of([]).run(server, question())
    assert server.calls == 1


def test_a_pause_that_the_deadline_does_not_hold_is_not_begun() -> None:
    server = Server(1)
    with pytest.raises(ModelUnavailable):
        retries_of([], pause=lambda _: 61.0).run(server, question(60.0))
    assert server.calls == 1


def test_a_caller_that_hangs_up_ends_the_pause() -> None:
    cancelled = Cancellation()
    cancelled.set()
    server = Server(1)
    assert retries_of([], pause=lambda _: 50.0).run(server, question(60.0, cancelled)) == b"answer"


def test_an_outage_costs_a_bounded_number_of_further_tries() -> None:
    heard: list[str] = []
    together = retries_of(heard, max_retries=10)
    server = Server(10**9)
    for _ in range(1000):
        with pytest.raises(ModelUnavailable):
            together.run(server, question())
    assert len(heard) == server.calls - 1000
    assert len(heard) == RESERVE


def test_a_server_that_fails_every_second_call_is_retried_for_a_fifth_of_them() -> None:
    heard: list[str] = []
    together = retries_of(heard, max_retries=1)
    failing = itertools.cycle([True, False])

    def flapping(_: Question) -> bytes:
        if next(failing):
            raise Unreachable("gone")
        return b""

    for _ in range(2000):
        try:
            together.run(flapping, question())
        except ModelUnavailable:
            continue
    assert RESERVE < len(heard) <= RESERVE + 0.2 * 2000


def test_after_an_outage_successes_earn_new_tries() -> None:
    budget = RetryBudget(reserve=2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(4):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()


@given(tries=st.integers(1, 60))
def test_pauses_are_spread_and_capped(tries: int) -> None:
    pauses = [retries.jittered_pause(tries) for _ in range(20)]
    assert all(0.0 <= pause <= min(0.5, 0.05 * 2 ** (tries - 1)) for pause in pauses)
    assert len(set(pauses)) > 1
