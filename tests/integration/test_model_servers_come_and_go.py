"""Servers behind one target that die, appear or leave while calls are made."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gateway.deadline import Deadline
from gateway.errors import ModelUnavailable
from gateway.model_client import servers
from gateway.model_client.channel import PREDICT, Connection, Question
from gateway.model_client.client import ModelClient, ModelSpec
from gateway.model_client.messages import predict_request
from tests.support.name_server import NameServer
from tests.support.stub_serving import StubModel, StubServing
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
MODEL = ModelSpec("clothing-model")
PICTURE = {"input_8": np.zeros((1, 299, 299, 3), np.float32)}
"""As a float32 tensor, 1.07 MB."""
PREDICT_REQUEST = predict_request(MODEL, "serving_default", PICTURE, ())
CALLERS = 8


@contextlib.contextmanager
def server_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """A stub in its own process, and where it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.stub_serving", "--port", "0", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        host, _, port = process.stdout.readline().split()[-1].rpartition(":")
        yield process, (host, int(port))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


FORKED = """
import os, sys
import numpy as np
from gateway.deadline import Deadline
from gateway.model_client.client import ModelClient, ModelSpec
client = ModelClient(("127.0.0.1", int(sys.argv[1])))
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        inputs = {"input_8": np.zeros((1, 2, 2, 3), np.float32)}
        spec = ModelSpec("clothing-model")
        client.predict(spec, "serving_default", inputs, Deadline.after(20))
        client.close()
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_each_worker_makes_its_own_channel_after_the_fork() -> None:
    with StubServing() as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", FORKED, str(server.port)],
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
        assert len(server.peers) == 2


@pytest.mark.case("F1")
def test_no_large_request_is_lost_when_one_of_two_servers_is_killed_under_load() -> None:
    retried: list[str] = []
    enough = threading.Event()
    answered: list[int] = []

    def call_until_enough() -> None:
        while not enough.is_set():
            prediction = client.predict(MODEL, "serving_default", PICTURE, Deadline.after(20))
            answered.append(prediction.version)

    slow = ("--delay", "0.02")
    with (
        server_process("--version", "1", *slow) as (_, first),
        server_process("--version", "2", *slow) as (victim, second),
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        client = ModelClient((first, second), on_retry=retried.append)
        try:
            callers = [pool.submit(call_until_enough) for _ in range(CALLERS)]
            wait_until(lambda: answered.count(2) >= CALLERS, what="both servers busy")
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            after = len(answered)
            wait_until(lambda: len(answered) >= after + 10 * CALLERS, what="going on with one")
        finally:
            enough.set()
            outcomes = [caller.exception(30) for caller in callers]
            client.close()
    assert outcomes == [None] * CALLERS
    assert set(answered[-CALLERS:]) == {1}
    assert retried, "the killed server held no call: the test proves nothing"


@pytest.mark.case("F17")
def test_a_server_that_a_name_gains_is_called_once_a_connection_has_ended() -> None:
    """Connections end by the server's age; gRPC asks DNS again then, and not before."""
    aging = (("grpc.max_connection_age_ms", 300), ("grpc.max_connection_age_grace_ms", 5_000))
    first = StubServing(options=aging)
    second = StubServing(host="127.0.0.2", options=aging)
    with first, NameServer(["127.0.0.1"]) as names:
        second.port = first.port
        connection = Connection(f"dns://127.0.0.1:{names.port}/serving.test:{first.port}")
        with second:
            for _ in range(3):
                connection.ask(Question(PREDICT, PREDICT_REQUEST, MODEL, Deadline.after(20)))
            assert not second.calls
            names.addresses.append("127.0.0.2")

            def second_is_called() -> bool:
                connection.ask(Question(PREDICT, PREDICT_REQUEST, MODEL, Deadline.after(20)))
                return second.calls[PREDICT] > 0

            wait_until(second_is_called, 10.0, "a call of the new server")
            connection.close()


@pytest.mark.case("F20")
def test_a_renewed_connection_asks_for_a_name_at_once() -> None:
    """Left alone, gRPC waits longer after each answer without an address, up to two minutes."""
    with StubServing() as server, NameServer([]) as names:
        connection = Connection(f"dns://127.0.0.1:{names.port}/serving.test:{server.port}")
        question = Question(PREDICT, PREDICT_REQUEST, MODEL, Deadline.after(20))

        def asked_twice() -> bool:
            with pytest.raises(ModelUnavailable):
                connection.ask(question)
            return names.queries > 2

        wait_until(asked_twice, 20.0, "a second question about the name")
        assert connection.failing
        names.addresses.append("127.0.0.1")
        connection.renew()
        connection.ask(question)
        connection.close()


def test_calls_under_way_outlive_the_renewal_of_their_connection() -> None:
    with StubServing(delay=0.5) as server, ThreadPoolExecutor(1) as pool:
        connection = Connection(f"ipv4:127.0.0.1:{server.port}")
        question = Question(PREDICT, PREDICT_REQUEST, MODEL, Deadline.after(20))
        under_way = pool.submit(connection.ask, question)
        wait_until(lambda: server.calls[PREDICT] == 1, what="the call's arrival")
        connection.renew()
        connection.ask(question)
        assert under_way.result(20)
        connection.close()


@pytest.mark.case("F15")
def test_once_a_server_says_its_state_predictions_reach_it() -> None:
    with StubServing() as server:
        client = ModelClient(server.address, max_retries=0)
        client.predict(MODEL, "serving_default", PICTURE, Deadline.after(20))
        server.stop()
        for _ in range(50):  # gRPC waits longer after each attempt to connect
            with pytest.raises(ModelUnavailable):
                client.predict(MODEL, "serving_default", PICTURE, Deadline.after(20))
            threading.Event().wait(0.05)
        server.start()

        def says_its_state() -> bool:
            with contextlib.suppress(ModelUnavailable):
                return bool(client.status(MODEL.name, Deadline.after(20)))
            return False

        wait_until(says_its_state, 20.0, "the server's state")
        client.predict(MODEL, "serving_default", PICTURE, Deadline.after(20))
        client.close()


def test_connections_that_end_by_age_lose_no_call() -> None:
    aging = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 5_000))
    with StubServing(options=aging) as server:
        client = ModelClient(server.address)
        wait_until(
            lambda: bool(
                client.predict(MODEL, "serving_default", PICTURE, Deadline.after(20))
                and len(server.peers) >= 5
            )
        )
        client.close()


def test_a_connection_to_one_address_is_closed_once_it_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with StubServing() as first, StubServing(host="127.0.0.2") as second:
        here, there = first.address, second.address
        known = servers.Servers()
        with known.hold([here, there]) as held:
            both = dict(held)
        with known.hold([here]) as held:
            assert held[here] is both[here]
        monkeypatch.setattr(servers, "IDLE_SECONDS", -1.0)
        with known.hold([here]) as held:
            renewed = held[here]
            assert renewed is not both[here]
            with known.hold([there]) as other:
                assert other[there] is not both[there]
            with known.hold([here]) as again:
                assert again[here] is renewed, "one that is in use is not idle"
        known.close()


@pytest.mark.case("F16")
def test_a_client_of_a_name_follows_it() -> None:
    """The name's first server has version 1 only, the one it gains has version 2."""
    old, new = StubServing({1: StubModel()}), StubServing({2: StubModel()}, host="127.0.0.2")
    with old:
        new.port = old.port
        with new:
            found = [("127.0.0.1", old.port)]
            client = ModelClient(("localhost", old.port), lookup=lambda _: tuple(found))
            assert [seen.version for seen in client.status(MODEL.name, Deadline.after(20))] == [1]
            found.append(("127.0.0.2", new.port))

            def has_both() -> bool:
                status = client.status(MODEL.name, Deadline.after(20))
                return [seen.version for seen in status] == [2, 1]

            wait_until(has_both)
            spec = ModelSpec(MODEL.name, 2)
            assert client.metadata(spec, Deadline.after(20)).version == 2
            client.close()
