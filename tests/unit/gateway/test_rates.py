"""Rate limits: what is counted, how it is paid off, over processes, in bounded memory."""

import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callers import Caller
from gateway.errors import RateLimited
from gateway.rates import SETS, WAYS, Debts, Rate, RateLimits, parse_rates

SECOND = 1_000_000_000
ANN = Caller("192.0.2.1", key="ann")
BOB = Caller("192.0.2.2", key="bob")


class Clock:
    """Nanoseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def wait_of(limits: RateLimits, caller: Caller, pictures: int = 1, paid: int = 0) -> int | None:
    """The seconds that a caller is told to wait, 0 where the pictures were counted."""
    try:
        limits.charge(caller, pictures, paid=paid)
    except RateLimited as error:
        return error.retry_after
    return 0


def passes(limits: RateLimits, caller: Caller, tries: int) -> int:
    return sum(wait_of(limits, caller) == 0 for _ in range(tries))


def test_a_setting_is_read() -> None:
    both = parse_rates("key=600/minute, address=5/hour")
    assert both == (Rate("key", 600, "minute"), Rate("address", 5, "hour"))
    assert parse_rates("address=1/second") == (Rate("address", 1, "second"),)
    assert parse_rates(" ") == ()


@pytest.mark.parametrize(
    "value",
    [
        *("600", "600/minute", "key", "key=", "key=/minute", "key=0/minute", "key=1.5/minute"),
        *("key=-1/minute", "key=1/day", "key=1/ minute", "key=1000001/second", "user=1/minute"),
        *("key=1/minute,", ",key=1/minute", "key=1/minute,key=2/minute", "key=\u0661/minute"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="must be key=600/minute"):
        parse_rates(value)


@pytest.mark.parametrize("number", [1, 7, 60, 999])
@pytest.mark.parametrize("period", ["second", "minute", "hour"])
def test_as_many_as_are_allowed_pass_and_not_one_more(
    clock: Clock, number: int, period: str
) -> None:
    limits = RateLimits([Rate("address", number, period)], clock)
    assert passes(limits, ANN, number + 5) == number
    assert passes(limits, BOB, 1) == 1


def test_what_was_asked_for_is_paid_off_evenly(clock: Clock) -> None:
    limits = RateLimits([Rate("address", 60, "minute")], clock)
    assert passes(limits, ANN, 60) == 60
    assert wait_of(limits, ANN) == 1
    clock.pass_seconds(0.99)
    assert wait_of(limits, ANN) == 1
    clock.pass_seconds(0.01)
    assert passes(limits, ANN, 2) == 1
    clock.pass_seconds(60)
    assert passes(limits, ANN, 100) == 60


def test_who_waits_as_long_as_he_is_told_passes(clock: Clock) -> None:
    limits = RateLimits([Rate("address", 10, "minute")], clock)
    assert wait_of(limits, ANN, 8) == 0
    wait = wait_of(limits, ANN, 5)
    assert wait == 18  # of 8 that are owed 5 may be left, and each takes 6 s
    clock.pass_seconds(wait)
    assert wait_of(limits, ANN, 5) == 0


STEPS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 10)), max_size=60)


@given(STEPS)
def test_nobody_gets_more_than_the_allowance_and_what_was_paid_off_meanwhile(
    steps: list[tuple[float, int]],
) -> None:
    clock = Clock()
    limits = RateLimits([Rate("address", 10, "minute")], clock)
    passed = [(0, 0)]  # when, and how many pictures had passed by then
    for pause, pictures in steps:
        clock.pass_seconds(pause)
        if wait_of(limits, ANN, pictures) == 0:
            passed.append((clock.now, passed[-1][1] + pictures))
    for index, (begin, _) in enumerate(passed[1:], 1):
        for end, until_then in passed[index:]:
            assert until_then - passed[index - 1][1] <= 10 + (end - begin) / (6 * SECOND)


@given(STEPS)
def test_who_waits_as_long_as_he_is_told_always_passes(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    limits = RateLimits([Rate("address", 10, "minute")], clock)
    for pause, pictures in steps:
        clock.pass_seconds(pause)
        wait = wait_of(limits, ANN, pictures)
        assert wait is not None
        if wait:
            clock.pass_seconds(wait)
            assert wait_of(limits, ANN, pictures) == 0


def test_a_refusal_costs_nothing(clock: Clock) -> None:
    limits = RateLimits([Rate("address", 3, "minute")], clock)
    assert wait_of(limits, ANN, 2) == 0
    assert wait_of(limits, ANN, 3) == 40
    assert passes(limits, ANN, 5) == 1


def test_one_that_was_counted_by_the_head_is_not_counted_twice(clock: Clock) -> None:
    limits = RateLimits([Rate("address", 10, "minute")], clock)
    for _ in range(2):
        assert wait_of(limits, ANN) == 0
        assert wait_of(limits, ANN, 5, paid=1) == 0
    assert passes(limits, ANN, 1) == 0


def test_the_whole_allowance_may_be_one_request(clock: Clock) -> None:
    limits = RateLimits([Rate("address", 10, "minute")], clock)
    assert wait_of(limits, ANN) == 0
    assert wait_of(limits, ANN, 10, paid=1) == 0
    assert wait_of(limits, ANN) == 6


def test_more_than_the_allowance_passes_once_nothing_is_owed_and_is_paid_off_whole(
    clock: Clock,
) -> None:
    limits = RateLimits([Rate("address", 10, "minute")], clock)
    assert wait_of(limits, ANN) == 0
    assert wait_of(limits, ANN, 16, paid=1) == 0
    assert wait_of(limits, ANN) == 42  # of 16 that are owed 9 may be left
    clock.pass_seconds(96)
    assert wait_of(limits, ANN) == 0
    assert wait_of(limits, ANN, 16, paid=1) == 0


def test_both_limits_hold_and_what_one_refuses_the_other_does_not_count(clock: Clock) -> None:
    limits = RateLimits([Rate("key", 5, "minute"), Rate("address", 3, "minute")], clock)
    home, work = (Caller(address, key="ann") for address in ("192.0.2.1", "192.0.2.2"))
    assert passes(limits, home, 10) == 3
    assert passes(limits, work, 10) == 2
    assert passes(limits, Caller("192.0.2.2", key="bob"), 10) == 1


def test_a_key_is_limited_wherever_it_is_used_and_keys_apart(clock: Clock) -> None:
    limits = RateLimits([Rate("key", 5, "minute")], clock)
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        assert passes(limits, Caller(address, key="ann"), 2) <= 2
    assert passes(limits, ANN, 1) == 0
    assert passes(limits, BOB, 9) == 5


def test_all_addresses_of_a_network_of_64_bits_share_one_limit(clock: Clock) -> None:
    limits = RateLimits([Rate("address", 4, "minute")], clock)
    own = [Caller(f"2001:db8:0:1::{number}") for number in range(8)]
    assert sum(passes(limits, each, 1) for each in own) == 4
    assert passes(limits, Caller("2001:db8:0:2::1"), 9) == 4


def test_without_limits_anything_passes() -> None:
    assert passes(RateLimits(), ANN, 1000) == 1000


def in_child(work: Callable[[], int]) -> int:
    """The process id of a child that does this and answers by its exit code."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            code = work()
        finally:
            os._exit(code)
    return child


def test_processes_count_together(clock: Clock) -> None:
    limits = RateLimits([Rate("key", 100, "hour"), Rate("address", 100, "hour")], clock)
    children = [in_child(lambda: passes(limits, ANN, 80)) for _ in range(4)]
    passed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sum(passed) == 100


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_was_stopped_in_the_middle_stops_no_other(
    clock: Clock, number: signal.Signals
) -> None:
    limits = RateLimits([Rate("address", 3, "minute")], clock)
    ((_, debts),) = limits._debts
    reading, writing = os.pipe()

    def hold() -> int:
        with debts.locked(debts.mark_of(ANN.address)):
            os.write(writing, b"held")
            signal.pause()
        return 0

    child = in_child(hold)
    try:
        assert os.read(reading, 4) == b"held"
        os.kill(child, number)
        assert passes(limits, ANN, 9) == 3
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_the_lock_keeps_another_process_out(clock: Clock) -> None:
    debts = Debts(1)

    def try_to_take() -> int:
        return int(debts._take_lock(0))

    with debts.locked(1):
        taken = os.waitstatus_to_exitcode(os.waitpid(in_child(try_to_take), 0)[1])
    assert taken == 0
    assert os.waitstatus_to_exitcode(os.waitpid(in_child(try_to_take), 0)[1]) == 1


def test_a_flood_of_addresses_clears_nobodys_debt_but_small_ones(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETS, "address", 1)
    limits = RateLimits([Rate("address", 10, "hour")], clock)
    assert passes(limits, ANN, 99) == 10
    assert passes(limits, BOB, 1) == 1
    flood = [Caller(f"198.51.100.{number}") for number in range(200)]
    assert all(wait_of(limits, each, 2) == 0 for each in flood)

    assert passes(limits, ANN, 99) == 0
    assert passes(limits, BOB, 99) == 10  # who is forgotten is allowed more, never less


def test_who_has_paid_everything_off_makes_room(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETS, "address", 1)
    limits = RateLimits([Rate("address", 2, "minute")], clock)
    old = [Caller(f"198.51.100.{number}") for number in range(WAYS)]
    assert [passes(limits, each, 9) for each in old] == [2] * WAYS
    clock.pass_seconds(61)
    new = [Caller(f"203.0.113.{number}") for number in range(WAYS)]
    assert [passes(limits, each, 9) for each in new] == [2] * WAYS
    assert [passes(limits, each, 9) for each in new] == [0] * WAYS


def test_nobody_outside_can_compute_where_a_caller_is_kept() -> None:
    assert Debts(1).mark_of("192.0.2.1") != Debts(1).mark_of("192.0.2.1")
