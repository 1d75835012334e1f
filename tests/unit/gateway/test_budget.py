import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.deadline import Deadline
from gateway.errors import ImageTooLarge, Overloaded
from gateway.scoring.budget import DecodeBudget

ROOT = Path(__file__).parents[3]
PATIENCE = 30.0


def soon() -> Deadline:
    return Deadline.after(0.05)


def later() -> Deadline:
    return Deadline.after(PATIENCE)


class Workers:
    """Real processes that share a budget; see tests/support/budget_processes.py."""

    def __init__(self, total: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.budget_processes", str(total)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def ask(self, command: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def workers() -> Iterator[Callable[[int], Workers]]:
    started: list[Workers] = []

    def start(total: int) -> Workers:
        started.append(Workers(total))
        return started[-1]

    yield start
    for each in started:
        each.process.communicate(timeout=PATIENCE)


def test_what_is_taken_is_in_use_until_the_block_ends() -> None:
    budget = DecodeBudget(100)

    with budget.take(60, soon()), budget.take(40, soon()):
        assert budget.in_use() == 100

    assert budget.in_use() == 0


def test_what_is_taken_comes_back_when_the_block_fails() -> None:
    budget = DecodeBudget(100)

    with pytest.raises(KeyError), budget.take(60, soon()):
        raise KeyError

    assert budget.in_use() == 0


def test_more_than_the_whole_budget_is_a_picture_too_large_and_says_both_sizes() -> None:
    budget = DecodeBudget(100 * 1024 * 1024)

    with pytest.raises(ImageTooLarge, match=r"takes about 101 MiB .* has 100 MiB"):  # noqa: SIM117
        with budget.take(101 * 1024 * 1024, later()):
            pass


def test_nothing_free_inside_the_deadline_is_overload_and_says_when_to_come_again() -> None:
    budget = DecodeBudget(100)

    with budget.take(60, soon()), pytest.raises(Overloaded) as error, budget.take(41, soon()):
        pass

    assert error.value.retry_after == 1
    assert budget.in_use() == 0
    assert budget.waiting() == 0


def test_a_waiter_gets_what_another_thread_gives_back() -> None:
    budget = DecodeBudget(100)
    taken = threading.Event()

    def wait_and_take() -> None:
        with budget.take(80, later()):
            taken.set()

    thread = threading.Thread(target=wait_and_take)
    with budget.take(60, soon()):
        thread.start()
        assert not taken.wait(0.05)

    assert taken.wait(PATIENCE)
    thread.join()


def test_a_large_picture_that_waits_is_not_overtaken_by_small_ones() -> None:
    budget = DecodeBudget(100)
    large = threading.Event()

    def take_all() -> None:
        with budget.take(100, later()):
            large.set()

    thread = threading.Thread(target=take_all)
    with budget.take(10, soon()):
        thread.start()
        poll(lambda: budget.waiting() == 1)
        with pytest.raises(Overloaded), budget.take(10, soon()):
            pass

    assert large.wait(PATIENCE)
    thread.join()


def test_many_threads_never_hold_more_than_the_budget() -> None:
    budget = DecodeBudget(100)
    seen: list[int] = []

    def work(size: int) -> None:
        for _ in range(50):
            with budget.take(size, later()):
                seen.append(budget.in_use())

    threads = [threading.Thread(target=work, args=(size,)) for size in (10, 30, 50, 90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 200
    assert max(seen) <= 100
    assert budget.in_use() == 0


def test_workers_forked_from_one_parent_share_the_budget(
    workers: Callable[[int], Workers],
) -> None:
    parent = workers(100)
    first, second = parent.ask("hold 50"), parent.ask("hold 30")

    assert parent.ask("in_use") == "80"
    assert parent.ask("take 21 0.05") == "overloaded"
    assert parent.ask("take 20 0.05") == "taken"

    for pid in (first, second):
        parent.ask(f"kill {pid}")


def test_a_killed_worker_gives_its_share_back_before_anybody_reaps_it(
    workers: Callable[[int], Workers],
) -> None:
    parent = workers(100)
    pid = parent.ask("hold 80")
    assert parent.ask("take 50 0.05") == "overloaded"

    parent.ask(f"kill {pid}")

    assert parent.ask("take 100 0.05") == "taken"
    assert parent.ask("in_use") == "0"


def test_what_a_parent_held_before_it_forked_is_its_own(
    workers: Callable[[int], Workers],
) -> None:
    parent = workers(100)
    parent.ask("keep 30")
    pid = parent.ask("hold 50")
    assert parent.ask("in_use") == "80"

    parent.ask(f"kill {pid}")

    assert parent.ask("in_use") == "30"


def test_a_worker_killed_while_it_waits_does_not_hold_up_those_behind_it(
    workers: Callable[[int], Workers],
) -> None:
    parent = workers(100)
    holder = parent.ask("hold 80")
    waiter = parent.ask("queue 90")
    assert parent.ask("take 10 0.05") == "overloaded"

    parent.ask(f"kill {waiter}")

    assert parent.ask("take 10 0.05") == "taken"
    parent.ask(f"kill {holder}")


def test_a_worker_that_waits_gets_what_a_killed_one_held(
    workers: Callable[[int], Workers],
) -> None:
    parent = workers(100)
    holder = parent.ask("hold 80")
    waiter = parent.ask("queue 90")

    parent.ask(f"kill {holder}")

    assert parent.ask(f"wait {waiter}") == "0"


def test_slots_of_dead_workers_are_used_again(workers: Callable[[int], Workers]) -> None:
    parent = workers(100)
    for _ in range(20):
        parent.ask(f"kill {parent.ask('hold 100')}")

    assert parent.ask("take 100 0.05") == "taken"


def test_a_budget_made_after_another_knows_nothing_of_it() -> None:
    first, second = DecodeBudget(100), DecodeBudget(100)

    with ExitStack() as stack:
        stack.enter_context(first.take(100, soon()))
        stack.enter_context(second.take(100, soon()))
        assert (first.in_use(), second.in_use()) == (100, 100)


def poll(condition: Callable[[], bool]) -> None:
    deadline = later()
    while not condition():
        deadline.check("condition held")
