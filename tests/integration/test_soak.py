"""Good and hostile callers at once, for a minute in `make test`, for ten by `make soak`.

At the end the gateway's processes hold what they held after the first minute, or the first third of
a shorter run. Both times nobody calls, so that only what was left behind is counted.
"""

import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.footprint import LINUX, Footprint, footprint
from tests.support.picture_host import picture_host
from tests.support.processes import Gateway, free_port, gateway, listens, start, wait_until
from tests.support.soak import PICTURES, Caller, Callers, good_callers, hostile_callers

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
SETTLED = min(60.0, SECONDS / 3)
MEMORY_NOISE = 24 * 2**20
"""Bytes by which resident memory differs between two moments of the same process at rest."""
HOSTILE = {"400", "405", "408", "411", "413", "414", "415", "417", "422", "431", "501", "504"}


def at_rest(made: Gateway) -> Footprint:
    """What it holds once every caller has gone and nothing is in flight."""

    def quiet() -> bool:
        page = made.metrics().splitlines()
        return {"tensorgate_in_flight 0.0", "tensorgate_connections 0.0"} <= set(page)

    wait_until(lambda: made.process.alive() and quiet(), "the last request has ended")
    return footprint(made.process.popen.pid)


def no_more_than(before: Footprint, after: Footprint) -> bool:
    """Whether no descriptor and no thread has come to stay."""
    return after.descriptors <= before.descriptors and after.threads <= before.threads


@pytest.mark.skipif(not LINUX, reason="only Linux tells what a process holds")
@pytest.mark.timeout(SECONDS + 240)
def test_memory_descriptors_and_threads_end_where_they_were() -> None:
    port = free_port()
    settings: dict[str, Any] = {
        "workers": 2,
        "fetch_timeout": 5,
        "head_timeout": 1,
        "body_timeout": 1,
    }
    stub = start("tests.support.stub_serving", "--port", str(port), venv="test")
    with stub, picture_host(PICTURES) as host:
        wait_until(lambda: listens(("127.0.0.1", port)), "the stub listens")
        with gateway(("127.0.0.1", port), **settings, **host.settings) as made:
            workers = made.workers()
            good, hostile = good_callers(made, host), hostile_callers(made, host)
            answered = call(good + hostile, SETTLED)
            before = at_rest(made)
            answered += call(good + hostile, SECONDS - SETTLED)
            wait_until(lambda: no_more_than(before, at_rest(made)), "what was opened is closed")
            after = at_rest(made)
            still = made.workers()

    requests = sum(answered.values())
    print(f"\n{requests:,} requests in {SECONDS:g} s: {dict(sorted(answered.items()))}")
    print(f"after {SETTLED:g} s: {before}\nafter {SECONDS:g} s: {after}")
    assert still == workers
    for (name, answer), count in answered.items():
        wanted = (
            {"200"} if name in {each.__name__ for each in good} else HOSTILE | {"200", "closed"}
        )
        assert answer in wanted, f"{name} was answered {answer}, {count} times"
    assert after.memory <= before.memory * 1.05 + MEMORY_NOISE


def call(callers: Sequence[Caller], seconds: float) -> Counter[tuple[str, str]]:
    """How often each was answered how, in so many seconds."""
    end = time.monotonic() + seconds
    with Callers(callers) as calling:
        wait_until(
            lambda: calling.alive() and time.monotonic() > end, "time is up", seconds=seconds + 60
        )
    return calling.answered
