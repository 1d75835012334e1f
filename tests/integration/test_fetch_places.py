"""One slow host or address never has all threads: others are served while it is silent."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from tests.support.hostile_origin import HostileOrigin, Visit, answer, response
from tests.support.hostile_world import HEALTHY, PNG
from tests.support.processes import Answer, Gateway, gateway
from tests.support.server_process import Caller, post
from tests.support.stub_serving import StubServing
from tests.support.waiting import wait_until
from tests.support.zone_server import ZoneServer, addresses

THREADS = 6
SHARE = 4
"""Two thirds of THREADS."""
CALLERS = 24
MIB = 1024 * 1024
LARGE = PNG + bytes(700 * 1024 - len(PNG))
"""Two of them fit into the memory for pictures, which counts all but the first 256 KiB of each."""
NAMES = tuple(f"name-{number}.test" for number in range(CALLERS))


@dataclass
class Callers:
    """Requests under way, each in a thread of its own, and their answers."""

    gateway: Gateway
    threads: list[threading.Thread] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def call(self, body: Mapping[str, object]) -> None:
        thread = threading.Thread(target=lambda: self.answers.append(self.gateway.predict(body)))
        self.threads.append(thread)
        thread.start()


@dataclass
class Running:
    gateway: Gateway
    slow: HostileOrigin
    healthy: HostileOrigin


@contextmanager
def callers(running: Running) -> Iterator[Callers]:
    """Callers, all of whom are answered at the end: those cut off by the host with 502."""
    made = Callers(running.gateway)
    try:
        yield made
    finally:
        running.slow.script = lambda _visit: None
        running.slow.hang_up()
        for thread in made.threads:
            thread.join(30)
    assert len(made.answers) == len(made.threads)


@pytest.fixture
def running() -> Iterator[Running]:
    with (
        ZoneServer({name: [addresses("127.0.0.2")] for name in NAMES}) as names,
        HostileOrigin(Visit.wait_until_gone, address="127.0.0.2") as slow,
        HostileOrigin(HEALTHY) as healthy,
        StubServing() as stub,
        gateway(
            stub.address,
            threads=THREADS,
            fetch_threads=2 * THREADS,
            max_in_flight=100,
            fetch_timeout=19,
            fetch_memory=MIB,
            name_servers=f"127.0.0.1:{names.port}",
            allowed_networks=f"127.0.0.2/32:{slow.port},127.0.0.1/32:{healthy.port}",
        ) as started,
    ):
        yield Running(started, slow, healthy)


def check_others_are_served(running: Running) -> None:
    """A picture of another host and one that is sent, while the slow host still says nothing."""
    wait_until(lambda: running.slow.open_connections == SHARE, what="the slow host's share")
    for _ in range(THREADS):
        assert running.gateway.predict({"url": running.healthy.url}).status == 200
        urls = [running.healthy.url] * 2
        assert "scores" in json.dumps(running.gateway.predict({"urls": urls}).json)
        sent = running.gateway.ask("POST", "/predict", PNG, content_type="image/png")
        assert sent.status == 200
    assert running.slow.open_connections == running.slow.connections == SHARE


def test_callers_of_one_silent_host_leave_threads_to_others(running: Running) -> None:
    url = f"http://127.0.0.2:{running.slow.port}/"
    with callers(running) as calling:
        for _ in range(CALLERS):
            calling.call({"url": url})
        check_others_are_served(running)
    assert sorted(answer.status for answer in calling.answers) == (
        [502] * SHARE + [503] * (CALLERS - SHARE)
    )
    refused = [answer for answer in calling.answers if answer.status == 503]
    assert {answer.json["type"] for answer in refused} == {"urn:tensorgate:problem:overloaded"}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


def test_names_of_one_silent_address_count_together(running: Running) -> None:
    with callers(running) as calling:
        for name in NAMES:
            calling.call({"url": f"http://{name}:{running.slow.port}/"})
        check_others_are_served(running)


def test_lists_of_one_silent_host_leave_threads_to_others(running: Running) -> None:
    """A list holds its request's thread until the last of its pictures is there."""
    url = f"http://127.0.0.2:{running.slow.port}/"
    with callers(running) as calling:
        for _ in range(CALLERS):
            calling.call({"urls": [running.healthy.url, url]})
        check_others_are_served(running)


def test_a_host_that_answers_serves_more_callers_than_it_has_places(running: Running) -> None:
    """They wait, and all are answered."""
    with callers(running) as calling:
        for _ in range(CALLERS):
            calling.call({"url": running.healthy.url})
            calling.call({"urls": [running.healthy.url] * 5})
    assert {answer.status for answer in calling.answers} == {200}
    assert all(b"error" not in answer.body for answer in calling.answers)


def test_large_pictures_that_are_held_up_leave_memory_to_small_ones(running: Running) -> None:
    """Two hold the memory, the third is refused; it comes back when they are done with."""
    url = f"http://127.0.0.2:{running.slow.port}/"

    def all_but_the_last_byte(visit: Visit) -> None:
        visit.read_request()
        # More than the sockets hold: once it is sent, the gateway has read the head of it.
        visit.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        visit.send(response(LARGE)[:-1])
        held.append(visit)
        visit.wait_until_gone()

    held: list[Visit] = []
    running.slow.script = all_but_the_last_byte
    with callers(running) as calling:
        for _ in range(2):
            calling.call({"url": url})
            wait_until(lambda: len(held) == len(calling.threads), what="a picture held up")
        refused = running.gateway.predict({"urls": [url, running.healthy.url]})
        rows = refused.json["predictions"]
        assert rows[0]["error"]["type"] == "urn:tensorgate:problem:overloaded"
        assert "scores" in rows[1]
        assert len(calling.answers) == 0
    running.slow.script = answer(response(LARGE))
    for _ in range(4):
        assert running.gateway.predict({"urls": [url, url]}).status == 200
        answered = running.gateway.predict({"urls": [url, url]}).json["predictions"]
        assert all("scores" in row for row in answered)


def test_callers_that_hang_up_end_their_fetches(running: Running) -> None:
    """The slow host sees them go long before any time-out, and its places are free again."""
    body = json.dumps({"url": f"http://127.0.0.2:{running.slow.port}/"}).encode()
    with ExitStack() as connected:
        for _ in range(SHARE):
            caller = connected.enter_context(Caller(running.gateway.address))
            caller.send(post("/predict", body))
        wait_until(lambda: running.slow.open_connections == SHARE, what="all fetches")
    wait_until(lambda: not running.slow.open_connections, 10, "nobody at the slow host")
    with callers(running) as calling:
        for _ in range(SHARE):
            calling.call(json.loads(body))
        wait_until(lambda: running.slow.open_connections == SHARE, what="all fetches again")
