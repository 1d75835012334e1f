"""Ten times the capacity, offered for a minute: what can be done is done, and the rest is told so.

The capacity is set by a stub model server that answers four calls at a time, each after a tenth of
a second, so that neither the gateway nor the generator is what the load wears out.
"""

import base64
import json

import numpy as np
import pytest

from tests.support.load import Load, measure_capacity
from tests.support.load_client import Request
from tests.support.pictures import KINDS
from tests.support.processes import free_port, gateway, listens, start, wait_until

THREADS, DELAY = 4, 0.1
DEADLINE = 5.0
SECONDS = 60.0
TIMES = 10
BODY = json.dumps(
    {"image": base64.b64encode(KINDS["png rgb"](np.random.default_rng(0), (20, 15))).decode()}
).encode()


@pytest.mark.timeout(400)
def test_ten_times_the_capacity_leaves_nine_tenths_of_it() -> None:
    port = free_port()
    arguments = ["--port", str(port), "--threads", str(THREADS), "--delay", str(DELAY)]
    with start("tests.support.stub_serving", *arguments, venv="test"):
        wait_until(lambda: listens(("127.0.0.1", port)), "the stub listens")
        with gateway(
            ("127.0.0.1", port), workers=1, request_timeout=DEADLINE, model_watch_interval=10
        ) as made:
            request = Request(
                made.address,
                "/predict",
                BODY,
                {"Content-Type": "application/json"},
                deadline=DEADLINE + 1,
                wanted=("Retry-After",),
            )
            capacity = measure_capacity(request, clients=THREADS, seconds=10)
            with Load(request, TIMES * capacity, pause=0.2, capacity=capacity) as load:
                load.wait_for(int(TIMES * capacity * SECONDS), seconds=4 * SECONDS)
            report = load.report()
            workers = made.workers()

    good = [answer for answer in load.answers if not answer.failure]
    refused = [answer for answer in load.answers if answer.failure]
    seconds = max(answer.started + answer.seconds for answer in load.answers) - report.began
    goodput = len(good) / seconds
    print(f"\n{report}\ncapacity {capacity:.1f}/s, goodput {goodput:.1f}/s in {seconds:.0f} s")
    assert report.rate >= 0.9 * TIMES * capacity, report
    assert goodput >= 0.9 * capacity
    assert max(answer.seconds for answer in good) < DEADLINE
    assert {answer.failure for answer in refused} == {"status-503"}, report
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert len(workers) == 1
