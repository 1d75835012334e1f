"""TensorFlow Serving gone, hanging or half there: what it costs callers and the server.

Faults are real: processes are killed and stopped, servers stop listening, names have no address.
"""

import contextlib
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.deadline import Deadline
from gateway.errors import ModelUnavailable
from gateway.model_client.channel import PREDICT, Connection, Question
from gateway.model_client.client import ModelSpec
from gateway.model_client.guards import FAILURES, OPEN_SECONDS
from gateway.model_client.messages import predict_request
from tests.support.model_faults import UPLOAD, check, circuit, metric, picture, times_opened
from tests.support.name_server import NameServer
from tests.support.processes import (
    ROOT,
    Address,
    Answer,
    Gateway,
    Process,
    free_port,
    gateway,
    listens,
    python,
    start,
    wait_until,
)
from tests.support.server_process import Caller, post
from tests.support.stub_serving import Failure, StubServing

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
GONE = Failure(UNAVAILABLE, "gone", methods=frozenset({PREDICT}))
SELDOM = 600
"""Seconds between looks at the models where none is to get in between."""


def ask_often(of: Gateway, times: int, callers: int = 8) -> Counter[int]:
    """How often each status was answered."""
    with ThreadPoolExecutor(callers) as pool:
        return Counter(pool.map(lambda _: of.predict(UPLOAD).status, range(times)))


def all_workers_know(of: Gateway) -> None:
    """Wait until every worker has seen the model predict, and all go on doing so."""
    wait_until(lambda: workers_that_saw_it(of) >= len(of.workers()), "every worker has looked")
    wait_until(lambda: ask_often(of, 12) == {200: 12}, "every worker predicts")


def workers_that_saw_it(of: Gateway) -> int:
    return sum(': serves"' in line for line in tuple(of.process.lines))


def open_circuit(of: Gateway) -> None:
    """Have the model's circuit open by predictions that fail."""
    assert circuit(of) == "closed"
    for _ in range(FAILURES):
        check(of.predict(UPLOAD), 503, "model-unavailable")
    assert circuit(of) == "open"


REQUEST = predict_request(
    ModelSpec("clothing-model"),
    "serving_default",
    {"input_8": np.zeros((1, 2, 2, 3), np.float32)},
    (),
)


# --- how often an outage is asked

WORKERS_CALL = """
import os, sys
import numpy as np
from gateway.deadline import Deadline
from gateway.errors import ModelUnavailable
from gateway.model_client.client import ModelClient, ModelSpec
from gateway.model_client.guards import Guards

port, workers, calls, reserve = map(int, sys.argv[1:])
guards = Guards(reserve=reserve)
tensor = {"input_8": np.zeros((1, 2, 2, 3), np.float32)}

def call():
    client = ModelClient(("127.0.0.1", port), guards=guards)
    for _ in range(calls // workers):
        try:
            client.predict(ModelSpec("m"), "serving_default", tensor, Deadline.after(20))
        except ModelUnavailable:
            continue
    os._exit(0)

children = []
for _ in range(workers):
    child = os.fork()
    if child == 0:
        call()
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.case("F8", "F15")
@pytest.mark.parametrize("workers", [1, 4])
def test_an_outage_costs_the_server_a_fifth_more_calls_at_most_whatever_the_workers(
    workers: int,
) -> None:
    """No circuit here. With the sixteen tries of two workers of eight threads: from 80 calls on."""
    calls, reserve = 80, 16
    with StubServing(failure=GONE) as stub:
        arguments = map(str, (stub.port, workers, calls, reserve))
        subprocess.run([sys.executable, "-c", WORKERS_CALL, *arguments], cwd=ROOT, check=True)
        assert stub.calls[PREDICT] == calls + reserve
    assert calls + reserve <= 1.2 * calls


@pytest.mark.case("F15")
def test_a_gateway_asks_a_server_that_fails_less_often_than_it_is_asked() -> None:
    settings: dict[str, Any] = {"workers": 2, "threads": 8, "model_watch_interval": SELDOM}
    with StubServing() as stub, gateway(stub.address, **settings) as started:
        all_workers_know(started)
        before = stub.calls[PREDICT]
        stub.failure = GONE
        assert ask_often(started, 100, 16) == {503: 100}
        assert stub.calls[PREDICT] - before <= 100 * 1.2
        assert times_opened(started) == 1


class EverySecond(StubServing):
    """Fails every second prediction."""

    failing = False

    def answer(self, method: str, request: bytes, context: Any) -> bytes:
        if self.failing and method == PREDICT and self.calls[PREDICT] % 2:
            self.failure = Failure(UNAVAILABLE, "not now", times=1, methods=frozenset({PREDICT}))
        return super().answer(method, request, context)


@pytest.mark.case("F8")
def test_a_server_that_fails_every_second_call_is_asked_a_fifth_more_often() -> None:
    asked, reserve = 200, 2 * 8
    settings: dict[str, Any] = {"workers": 2, "threads": 8, "model_watch_interval": SELDOM}
    with EverySecond() as stub, gateway(stub.address, **settings) as started:
        all_workers_know(started)
        before = stub.calls[PREDICT]
        stub.failing = True
        statuses = ask_often(started, asked)
        calls = stub.calls[PREDICT] - before
        assert set(statuses) == {200, 503}
        assert calls <= 1.2 * asked + reserve
        assert circuit(started) == "closed"
        assert times_opened(started) == 0


# --- the circuit


@pytest.mark.case("F15")
def test_an_open_circuit_answers_at_once_without_a_call_and_one_call_closes_it() -> None:
    settings: dict[str, Any] = {"workers": 2, "model_watch_interval": SELDOM}
    with StubServing() as stub, gateway(stub.address, **settings) as started:
        all_workers_know(started)
        workers = started.workers()
        stub.failure = GONE
        open_circuit(started)
        before = stub.calls.total()
        seconds = []
        for _ in range(20):
            begun = time.monotonic()
            answer = started.predict(UPLOAD)
            seconds.append(time.monotonic() - begun)
            check(answer, 503, "model-unavailable")
            assert 1 <= int(answer.headers["retry-after"]) <= OPEN_SECONDS
        assert stub.calls.total() == before
        assert statistics.median(seconds) < 0.05
        assert started.ask("GET", "/healthz").status == 200
        assert started.ready()

        wait_until(lambda: circuit(started) == "half-open", "a call may decide")
        assert ask_often(started, 8) == {503: 8}
        assert stub.calls.total() == before + 1, "one call decides"
        assert circuit(started) == "open"

        stub.failure = None
        wait_until(lambda: circuit(started) == "half-open", "a call may decide")
        assert started.predict(UPLOAD).status == 200
        assert circuit(started) == "closed"
        assert ask_often(started, 8) == {200: 8}
        assert times_opened(started) == 1
        assert started.workers() == workers
        lines = [line for line in started.process.lines if "its circuit is" in line]
        assert len(lines) == 2, "it opened and closed"


@pytest.mark.case("F15")
def test_when_the_servers_are_back_it_closes_without_a_request() -> None:
    with contextlib.ExitStack() as running:
        stubs = [running.enter_context(StubServing()) for _ in range(3)]
        started = running.enter_context(gateway(*(stub.address for stub in stubs), workers=2))
        workers = started.workers()
        all_workers_know(started)
        for stub in stubs:
            stub.stop()
        open_circuit(started)
        stubs[1].start()
        wait_until(lambda: circuit(started) == "closed", "the circuit closes")
        all_workers_know(started)
        assert started.workers() == workers
        for stub in (stubs[0], stubs[2]):
            stub.start()


@pytest.mark.case("F15")
def test_a_server_that_says_its_state_and_predicts_nothing_is_tried_without_a_request() -> None:
    with StubServing() as stub, gateway(stub.address, workers=2) as started:
        all_workers_know(started)
        stub.failure = GONE
        for _ in range(FAILURES):
            check(started.predict(UPLOAD), 503, "model-unavailable")
        wait_until(lambda: times_opened(started) == 1, "the circuit opens")
        stub.failure = None
        wait_until(lambda: circuit(started) == "closed", "the circuit closes")
        assert started.predict(UPLOAD).status == 200


def slowly_sent(of: Gateway) -> int:
    """The status of a request whose body comes when more than half of its time is over."""
    request = post("/predict", picture(), content_type="image/png")
    with Caller(of.address) as caller:
        begun = time.monotonic()
        caller.send(request[:-1])
        wait_until(lambda: time.monotonic() - begun > 0.65 * REQUEST_SECONDS, "time passes")
        return caller.ask(request[-1:]).status


REQUEST_SECONDS = 2


def test_callers_who_leave_little_time_cannot_open_it() -> None:
    """Their calls time out as well, and mean nothing."""
    settings: dict[str, Any] = {"threads": 16, "model_watch_interval": SELDOM}
    with StubServing(threads=32) as stub:
        settings["request_timeout"] = REQUEST_SECONDS
        with gateway(stub.address, **settings) as started, ThreadPoolExecutor(16) as callers:
            assert started.predict(UPLOAD).status == 200
            stub.delay = 10.0
            slow = list(callers.map(lambda _: slowly_sent(started), range(2 * FAILURES)))
            assert slow == [504] * (2 * FAILURES)
            assert circuit(started) == "closed"
            prompt = list(callers.map(lambda _: started.predict(UPLOAD).status, range(FAILURES)))
            assert prompt == [504] * FAILURES
            assert circuit(started) == "open"
            stub.delay = 0.0


def test_an_open_circuit_fetches_no_picture() -> None:
    """What a stranger named is not looked at where no prediction can follow."""
    with StubServing() as stub, gateway(stub.address, model_watch_interval=SELDOM) as started:
        stub.failure = GONE
        open_circuit(started)
        check(started.predict({"url": "http://127.0.0.1/"}), 503, "model-unavailable")


# --- one of several


@contextlib.contextmanager
def stub_process(port: int) -> Iterator[Process]:
    with start("tests.support.stub_serving", "--port", str(port), venv="test") as process:
        wait_until(lambda: listens(("127.0.0.1", port)), "the stub listens")
        yield process


@pytest.mark.case("F18")
def test_one_of_three_that_hangs_or_is_killed_does_not_end_the_calls_of_the_others() -> None:
    ports = [free_port() for _ in range(3)]
    addresses = [("127.0.0.1", port) for port in ports]
    with contextlib.ExitStack() as running:
        stubs = [running.enter_context(stub_process(port)) for port in ports]
        started = running.enter_context(gateway(*addresses, request_timeout=1, threads=32))
        all_workers_know(started)
        stubs[0].popen.send_signal(signal.SIGSTOP)
        try:
            statuses = ask_often(started, 60, 6)
        finally:
            stubs[0].popen.send_signal(signal.SIGCONT)
        assert set(statuses) == {200, 504}
        assert statuses[504] <= 30, "every third call meets it"
        assert times_opened(started) == 0
        all_workers_know(started)
        stubs[1].kill()
        assert ask_often(started, 60, 6) == {200: 60}
        assert times_opened(started) == 0


# --- the embedded model server


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of a real model, with one version."""
    directory = tmp_path_factory.mktemp("models")
    command = [python("model"), "-m", "tests.support.gray_models", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    shutil.copytree(directory / "server-1" / "sized", directory / "sized")
    return directory / "sized"


@contextlib.contextmanager
def embedded(sized: Path, address: Address) -> Iterator[Process]:
    flags = (f"--port={address[1]}", "--model_name=sized", f"--model_base_path={sized}")
    with start("model.server", *flags, venv="model") as process:
        wait_until(lambda: process.alive() and listens(address), "the model is loaded", 120)
        yield process


def asking(callers: ThreadPoolExecutor, of: Gateway, times: int) -> list[Future[Answer]]:
    """Requests under way, all of them sent."""
    before = metric(of, "tensorgate_in_flight")
    asked = [callers.submit(of.predict, UPLOAD) for _ in range(times)]
    wait_until(lambda: metric(of, "tensorgate_in_flight") >= before + times, "all are under way")
    return asked


@pytest.mark.case("F1", "F2")
def test_the_embedded_server_stopped_or_killed_in_the_middle_of_calls(sized: Path) -> None:
    """Stopped, each call ends with its deadline; killed, with 503; back, predictions go on."""
    address = ("127.0.0.1", free_port())
    settings: dict[str, Any] = {"models": "sized", "request_timeout": 3, "workers": 2}
    with gateway(address, wait=False, **settings) as started, ThreadPoolExecutor(8) as callers:
        with embedded(sized, address) as server:
            all_workers_know(started)
            workers = started.workers()

            server.popen.send_signal(signal.SIGSTOP)
            try:
                for answer in asking(callers, started, FAILURES):
                    check(answer.result(10), 504, "deadline-exceeded")
                assert circuit(started, "sized") == "open"
                check(started.predict(UPLOAD), 503, "model-unavailable")
            finally:
                server.popen.send_signal(signal.SIGCONT)
            wait_until(lambda: circuit(started, "sized") == "closed", "the circuit closes")
            assert started.predict(UPLOAD).status == 200

            server.popen.send_signal(signal.SIGSTOP)
            asked = asking(callers, started, FAILURES)
            server.kill()
            for answer in asked:
                check(answer.result(10), 503, "model-unavailable")
            assert started.ask("GET", "/healthz").status == 200
            assert started.ready()
        with embedded(sized, address):
            wait_until(lambda: circuit(started, "sized") == "closed", "the circuit closes")
            wait_until(lambda: started.predict(UPLOAD).status == 200, "predictions go on")
        assert started.workers() == workers


@pytest.mark.case("E13")
def test_a_caller_who_hangs_up_ends_his_call_at_the_server() -> None:
    with StubServing() as stub, gateway(stub.address, model_watch_interval=SELDOM) as started:
        assert started.predict(UPLOAD).status == 200
        stub.delay = 10.0
        before = stub.calls[PREDICT]
        with Caller(started.address) as caller:
            caller.send(post("/predict", picture(), content_type="image/png"))
            wait_until(lambda: stub.calls[PREDICT] > before, "the call arrives")
            assert stub.ended_early == 0
        wait_until(lambda: stub.ended_early == 1, "the call is cancelled", 0.5)


# --- names


@pytest.mark.case("F20")
def test_a_name_without_an_address_is_unavailable_and_nothing_hangs() -> None:
    settings: dict[str, Any] = {"request_timeout": 2}
    with gateway(("serving.invalid", 8500), wait=False, **settings) as started:
        assert started.ask("GET", "/healthz").status == 200, "the worker has been made"
        begun = time.monotonic()
        check(started.predict(UPLOAD), 503, "model-unavailable")
        assert time.monotonic() - begun < 3
        assert started.ask("GET", "/readyz").status == 503


@pytest.mark.case("F16")
def test_servers_that_all_move_to_other_addresses_are_found_there() -> None:
    """The name is resolved again when a connection ends."""
    with StubServing() as old, NameServer(["127.0.0.1"]) as names:
        new = StubServing(host="127.0.0.2", port=old.port)
        connection = Connection(f"dns://127.0.0.1:{names.port}/serving.test:{old.port}")
        try:
            with new:
                assert answers(connection)
                assert not new.calls
                names.addresses[:] = ["127.0.0.2"]
                old.stop()
                wait_until(lambda: answers(connection), "the new address is called")
                assert new.calls[PREDICT]
        finally:
            connection.close()
            old.start()


def answers(connection: Connection) -> bool:
    question = Question(PREDICT, REQUEST, ModelSpec("clothing-model"), Deadline.after(5))
    with contextlib.suppress(ModelUnavailable):
        return bool(connection.ask(question))
    return False
