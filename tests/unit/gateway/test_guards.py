"""What moves a circuit and what does not, and what workers know together."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import errors
from gateway.deadline import Deadline
from gateway.model_client import guards
from gateway.model_client.client import ModelSpec
from gateway.model_client.failures import Unreachable, VersionMoved
from gateway.model_client.guards import FAILURES, Circuit, Guards, State
from gateway.scoring.parts import Context
from tests.support.fake_serving import FakeVersion, one_server, parts
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
LOST = Unreachable("lost")
TOO_LATE = errors.DeadlineExceeded("too late")
MIN_TIME = 2.0


def circuit() -> Circuit:
    return Circuit("clothing-model", MIN_TIME)


def state_of(found: Circuit) -> State:
    """Its state now, which a type checker does not take for the one before."""
    return found.state


def call(through: Circuit, error: Exception | None = None, seconds: float = 20.0) -> bool:
    """Whether a call was made, which ended with the error or, where there is none, well."""
    made = False
    with contextlib.suppress(errors.GatewayError), through.guard(Deadline.after(seconds)):
        made = True
        if error is not None:
            raise error
    return made


def opened() -> Circuit:
    found = circuit()
    for _ in range(FAILURES):
        assert call(found, LOST)
    assert state_of(found) is State.OPEN
    return found


def half_open() -> Circuit:
    found = opened()
    found.try_soon()
    assert state_of(found) is State.HALF_OPEN
    return found


@pytest.mark.parametrize("error", [LOST, TOO_LATE], ids=lambda error: type(error).__name__)
def test_so_many_failures_in_a_row_open_it(error: Exception) -> None:
    found = circuit()
    for _ in range(FAILURES - 1):
        call(found, error)
    call(found)
    for _ in range(FAILURES - 1):
        call(found, error)
    assert state_of(found) is State.CLOSED
    call(found, error)
    assert state_of(found) is State.OPEN
    assert found.times_opened == 1


NEITHER = [
    (errors.ModelOverloaded("full queue"), 20.0),
    (errors.ModelRejectedInput("bad input"), 20.0),
    (errors.ModelNotFound("no such version"), 20.0),
    (errors.ModelFailed("failed"), 20.0),
    (errors.CallerGone("hung up"), 20.0),
    (VersionMoved("exchanged"), 20.0),
    (errors.ModelUnavailable("not every server that may have it"), 20.0),
    (TOO_LATE, MIN_TIME - 0.1),
    (TOO_LATE, 0.0),
]


@pytest.mark.parametrize(("error", "seconds"), NEITHER)
def test_what_strangers_can_bring_about_does_not_open_it(error: Exception, seconds: float) -> None:
    found = circuit()
    for _ in range(20 * FAILURES):
        call(found, error, seconds)
    assert state_of(found) is State.CLOSED


@pytest.mark.parametrize(("error", "seconds"), NEITHER)
def test_what_strangers_can_bring_about_does_not_keep_it_from_opening(
    error: Exception, seconds: float
) -> None:
    found = circuit()
    for _ in range(FAILURES):
        call(found, LOST)
        call(found, error, seconds)
    assert state_of(found) is State.OPEN


@pytest.mark.parametrize("error", [LOST, TOO_LATE], ids=lambda error: type(error).__name__)
def test_a_failure_does_not_count_if_another_call_has_succeeded_meanwhile(
    error: Exception,
) -> None:
    """One server of several hangs or is gone, and many calls at once: the others answer."""
    found = circuit()
    with contextlib.ExitStack() as under_way:
        for _ in range(4 * FAILURES):
            under_way.enter_context(failing(found, error))
        call(found)
    assert state_of(found) is State.CLOSED
    call(found, error)
    assert state_of(found) is State.CLOSED, "the failures before have not been counted"


def test_an_open_one_says_when_to_try_again_and_makes_no_call() -> None:
    found = opened()
    assert not call(found)
    with pytest.raises(errors.ModelUnavailable, match="'clothing-model'") as caught:
        found.check()
    assert caught.value.retry_after == guards.OPEN_SECONDS
    assert caught.value.log_detail == "the circuit is open"


def test_after_a_while_one_call_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "OPEN_SECONDS", 0.05)
    found = circuit()
    for _ in range(FAILURES):
        call(found, LOST)
    wait_until(lambda: state_of(found) is State.HALF_OPEN)
    with found.guard(Deadline.after(20)) as decides:
        assert decides
        assert state_of(found) is State.HALF_OPEN
        assert not call(found), "another one beside the call that decides"
        with pytest.raises(errors.ModelUnavailable):
            found.check()
    assert state_of(found) is State.CLOSED
    with found.guard(Deadline.after(20)) as decides:
        assert not decides


@pytest.mark.parametrize("error", [LOST, TOO_LATE], ids=lambda error: type(error).__name__)
def test_a_failure_that_decides_opens_it_again(error: Exception) -> None:
    found = half_open()
    assert call(found, error)
    assert state_of(found) is State.OPEN
    assert found.times_opened == 1, "it was not closed between"


@pytest.mark.parametrize(("error", "seconds"), NEITHER)
def test_what_decides_nothing_leaves_the_decision_to_the_next_call(
    error: Exception, seconds: float
) -> None:
    found = half_open()
    assert call(found, error, seconds)
    assert state_of(found) is State.HALF_OPEN
    assert call(found)
    assert state_of(found) is State.CLOSED


def test_calls_that_fail_after_it_opened_do_not_keep_it_open() -> None:
    """They began while it was closed; the server may have come back since."""
    found = circuit()
    with contextlib.ExitStack() as under_way:
        for _ in range(2 * FAILURES):
            under_way.enter_context(failing(found, LOST))
        for _ in range(FAILURES):
            call(found, LOST)
        found.try_soon()
    assert state_of(found) is State.HALF_OPEN


@contextlib.contextmanager
def failing(through: Circuit, error: Exception) -> Iterator[None]:
    """A call that ends with the error when the block ends."""
    with contextlib.suppress(errors.GatewayError), through.guard(Deadline.after(20)):
        yield
        raise error


def test_a_late_success_closes_it() -> None:
    found = circuit()
    with found.guard(Deadline.after(20)):
        for _ in range(FAILURES):
            call(found, LOST)
        assert state_of(found) is State.OPEN
    assert state_of(found) is State.CLOSED


def test_to_see_a_server_changes_nothing_while_it_is_closed() -> None:
    found = circuit()
    for _ in range(FAILURES - 1):
        call(found, LOST)
    found.try_soon()
    assert state_of(found) is State.CLOSED
    call(found, LOST)
    assert state_of(found) is State.OPEN


def test_each_model_has_its_own_and_others_have_one_that_never_opens() -> None:
    found = Guards(["shirts", "shoes"], min_time=MIN_TIME)
    for _ in range(FAILURES):
        call(found.circuit("shirts"), LOST)
        call(found.circuit("unknown"), LOST)
    states = {each.model: each.state for each in found.circuits}
    assert states == {"shirts": State.OPEN, "shoes": State.CLOSED}
    assert state_of(found.circuit("unknown")) is State.CLOSED


def test_the_watcher_has_a_model_predict_until_its_circuit_is_closed() -> None:
    """A server can say its state and still answer no prediction."""
    serving = one_server(v1=FakeVersion())
    serving.guards = Guards(["clothing-model"])
    watcher = parts(serving).watcher
    for _ in range(3):
        watcher.look()
    assert len(serving.predictions) == 1, "what predicts is not asked again"
    for _ in range(FAILURES):
        call(serving.circuit("clothing-model"), LOST)
    watcher.look()
    assert len(serving.predictions) == 2


def test_an_open_circuit_ends_a_request_before_anything_is_done_for_it() -> None:
    serving = one_server(v1=FakeVersion())
    serving.guards = Guards(["clothing-model"])
    for _ in range(FAILURES):
        call(serving.circuit("clothing-model"), LOST)
    scorer = parts(serving).scorer
    with pytest.raises(errors.ModelUnavailable, match="has stopped answering"):
        scorer.score([b"gray 1"], ModelSpec("clothing-model"), Context(Deadline.after(20)))
    assert not serving.calls


SHARED = """
import os, sys
from gateway.deadline import Deadline
from gateway.errors import GatewayError
from gateway.model_client.failures import Unreachable
from gateway.model_client.guards import FAILURES, Guards, State

guards = Guards(["clothing-model"], reserve=10, min_time=1.0)
circuit = guards.circuit("clothing-model")

def in_child(work):
    child = os.fork()
    if child == 0:
        os._exit(work() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def spend():
    return sum(guards.budget.spend() for _ in range(7))

def earn():
    for _ in range(5):
        guards.budget.earn()

def fail():
    try:
        with circuit.guard(Deadline.after(20)):
            raise Unreachable("lost")
    except Unreachable:
        return

def die_while_deciding():
    with circuit.guard(Deadline.after(0.2)) as decides:
        os._exit(decides)

assert [in_child(spend), in_child(spend)] == [7, 3]
in_child(earn)
assert [guards.budget.spend(), guards.budget.spend()] == [True, False]

for _ in range(FAILURES):
    assert circuit.state is State.CLOSED
    in_child(fail)
assert circuit.state is State.OPEN

circuit.try_soon()
assert in_child(die_while_deciding) == 1
refused = 0
while True:
    try:
        with circuit.guard(Deadline.after(20)) as decides:
            break
    except GatewayError:
        refused += 1
assert decides and refused, (decides, refused)
assert circuit.state is State.CLOSED
"""


def test_forked_workers_share_them_and_none_takes_a_decision_to_its_grave() -> None:
    subprocess.run([sys.executable, "-c", SHARED], cwd=ROOT, timeout=60, check=True)
