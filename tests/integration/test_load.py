"""The load generator tells what was lost, no more and no less: asked of servers with one fault."""

import asyncio
import contextlib
import dataclasses
import itertools
import socket
import socketserver
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.load import Load, measure_capacity
from tests.support.load_client import Answer, Client, Request
from tests.support.processes import Address, free_port
from tests.support.waiting import wait_until

BODY = b'{"url": "http://pictures.test/pants.jpg"}'
ANSWER = b'{"pants": 1.0}'


def encode(number: int, *lines: str, status: str = "200 OK", body: bytes = ANSWER) -> bytes:
    head = [f"HTTP/1.1 {status}", f"X-Number: {number}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, *lines, "", ""]).encode() + body


def reset(connection: socket.socket) -> None:
    """Close it with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


Behaviour = Callable[["Server", socket.socket, int], bool]
"""Answers, or does not, the request of that number; whether the connection stays open."""


class Server(socketserver.ThreadingTCPServer):
    """Reads whole requests and leaves the answers to a behaviour."""

    request_queue_size = 128

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.behaviour = behaviour
        self.numbers = itertools.count(1)
        self.connections = itertools.count()
        self.asked: list[int] = []
        self.bodies: set[bytes] = set()
        self.faults: dict[int, float] = {}
        """When a fault happened, by the number of its request."""
        self.released = threading.Event()
        self.closed = threading.Event()
        """A connection has been closed."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no news here."""

    @property
    def target(self) -> Address:
        return "127.0.0.1", self.socket.getsockname()[1]


class Connection(socketserver.BaseRequestHandler):
    """One connection of a server."""

    server: Server
    request: socket.socket

    def handle(self) -> None:
        next(self.server.connections)
        with self.request.makefile("rb") as stream:
            while body := self.read(stream.readline, stream.read):
                self.server.bodies.add(body)
                number = next(self.server.numbers)
                self.server.asked.append(number)
                if not self.server.behaviour(self.server, self.request, number):
                    return

    @staticmethod
    def read(readline: Callable[[], bytes], read: Callable[[int], bytes]) -> bytes:
        """The next request's body; empty at the end."""
        length = 0
        while (line := readline()).strip():
            name, _, value = line.partition(b":")
            length = int(value) if name == b"Content-Length" else length
        return read(length)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)
        self.server.closed.set()


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[Server]:
    """A running server; at the end, held answers are released."""
    with Server(behaviour) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def answering(server: Server, connection: socket.socket, number: int) -> bool:
    connection.sendall(encode(number))
    return True


def resetting_one_in_a_thousand(server: Server, connection: socket.socket, number: int) -> bool:
    if number % 1000:
        return answering(server, connection, number)
    server.faults[number] = time.monotonic()
    reset(connection)
    return False


def cutting_bodies(server: Server, connection: socket.socket, number: int) -> bool:
    if number % 10:
        return answering(server, connection, number)
    server.faults[number] = time.monotonic()
    connection.sendall(encode(number)[:-1])
    return False


def cutting_heads(server: Server, connection: socket.socket, number: int) -> bool:
    if number % 10:
        return answering(server, connection, number)
    server.faults[number] = time.monotonic()
    connection.sendall(encode(number)[: number % 20])
    return False


def busy_now_and_then(server: Server, connection: socket.socket, number: int) -> bool:
    if number % 10:
        return answering(server, connection, number)
    server.faults[number] = time.monotonic()
    connection.sendall(encode(number, status="503 Service Unavailable", body=b"too busy"))
    return True


def silent_now_and_then(server: Server, connection: socket.socket, number: int) -> bool:
    if number % 10 == 0:
        server.faults[number] = time.monotonic()
        server.released.wait(30)
        return False
    return answering(server, connection, number)


def stalling_in_the_body(server: Server, connection: socket.socket, number: int) -> bool:
    if number % 10 == 0:
        server.faults[number] = time.monotonic()
        connection.sendall(encode(number)[:-1])
        server.released.wait(30)
        return False
    return answering(server, connection, number)


def without_length(server: Server, connection: socket.socket, number: int) -> bool:
    if number % 10:
        return answering(server, connection, number)
    server.faults[number] = time.monotonic()
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + ANSWER)
    return False


def closing_politely(server: Server, connection: socket.socket, number: int) -> bool:
    """Every answer says that its connection is closed, which then is not closed for a while."""
    connection.sendall(encode(number, "Connection: close"))
    return True


def closing_after_each(server: Server, connection: socket.socket, number: int) -> bool:
    connection.sendall(encode(number))
    return False


def request_to(address: Address, *, deadline: float = 10.0) -> Request:
    return Request(
        address,
        "/predict",
        BODY,
        {"Content-Type": "application/json"},
        deadline=deadline,
        wanted=("X-Number",),
    )


def numbers(load: Load) -> list[int]:
    """The numbers that came back in 2xx answers, in order."""
    answered = [answer for answer in load.answers if not answer.failure]
    return sorted(int(answer.headers["X-Number"]) for answer in answered)


def test_a_server_that_resets_one_in_a_thousand_has_lost_exactly_those() -> None:
    with serving(resetting_one_in_a_thousand) as server:
        with Load(request_to(server.target), 700, pause=0.1) as load:
            load.wait_for(3000)
        report = load.report()

    assert len(server.asked) == len(load.answers) == report.requests
    assert report.lost == {"reset": len(server.faults)}, report
    assert list(server.faults)[:3] == [1000, 2000, 3000]
    assert numbers(load) == sorted(set(server.asked) - set(server.faults))
    assert server.bodies == {BODY}
    for lost, moment in zip(report.examples, server.faults.values(), strict=True):
        assert lost.started <= moment <= lost.started + lost.seconds, report
    report.check(2000)


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (cutting_bodies, "cut"),
        (cutting_heads, "cut"),
        (busy_now_and_then, "status-503"),
        (silent_now_and_then, "timed-out"),
        (stalling_in_the_body, "timed-out"),
        (without_length, "malformed"),
    ],
)
def test_what_a_faulty_server_does_not_answer_is_lost_and_never_sent_again(
    behaviour: Behaviour, failure: str
) -> None:
    with serving(behaviour) as server:
        with Load(request_to(server.target, deadline=1.0), 300, pause=0.05) as load:
            load.wait_for(300)
        report = load.report()

        assert len(server.asked) == report.requests
        assert report.lost == {failure: len(server.faults)}, report
        assert numbers(load) == sorted(set(server.asked) - set(server.faults))


def test_every_request_to_a_closed_port_is_refused() -> None:
    with Load(request_to(("127.0.0.1", free_port())), 300, pause=0.05) as load:
        load.wait_for(100)

    report = load.report()
    assert report.lost == {"refused": report.requests}
    assert "refused after" in str(report)


def test_a_load_comes_from_the_address_that_it_is_given() -> None:
    peers = set[str]()

    def noting_peers(server: Server, connection: socket.socket, number: int) -> bool:
        peers.add(connection.getpeername()[0])
        return answering(server, connection, number)

    with serving(noting_peers) as server:
        request = dataclasses.replace(request_to(server.target), source="127.0.1.9")
        with Load(request, 300, pause=0.05) as load:
            load.wait_for(100)
        assert not load.report().lost
    assert peers == {"127.0.1.9"}


def test_half_of_the_clients_keep_their_connections() -> None:
    with serving(answering) as server:
        with Load(request_to(server.target), 300, pause=0.2) as load:
            load.wait_for(300)
        kept = [answer for answer in load.answers if answer.client % 2 == 0]
        fresh = [answer for answer in load.answers if answer.client % 2]
        keeping = {answer.client for answer in kept}

        assert not load.report().lost
        assert next(server.connections) == len(fresh) + len(keeping)
        assert abs(len(keeping) - load.report().clients / 2) <= 0.5
        assert 0.3 < len(kept) / len(load.answers) < 0.7
        assert {answer.earlier for answer in fresh} == {0}
        assert max(answer.earlier for answer in kept) > 1


def test_clients_pause_evenly_up_to_the_longest_pause() -> None:
    with serving(answering) as server, Load(request_to(server.target), 200, pause=0.5) as load:
        load.wait_for(500)

    pauses, ends = [], dict[int, float]()
    for answer in sorted(load.answers, key=lambda answer: answer.started):
        if answer.client in ends:
            pauses.append(answer.started - ends[answer.client])
        ends[answer.client] = answer.started + answer.seconds
    quarters = statistics.quantiles(pauses)
    assert quarters == pytest.approx([0.125, 0.25, 0.375], abs=0.08)
    assert min(pauses) >= 0


def test_a_connection_that_the_server_said_to_close_is_not_used_again() -> None:
    with serving(closing_politely) as server:
        with Load(request_to(server.target), 300, pause=0.02) as load:
            load.wait_for(200)

        assert not load.report().lost
        assert next(server.connections) == len(load.answers)


def ask_twice(server: Server, between: threading.Event | None = None) -> tuple[Answer, Answer]:
    """Two requests of a client that keeps its connection, the second after the event."""

    async def ask() -> tuple[Answer, Answer]:
        with contextlib.closing(Client(0, request_to(server.target), keeps=True)) as client:
            first = await client.ask()
            if between is not None:
                assert await asyncio.to_thread(between.wait, 10)
            return first, await client.ask()

    return asyncio.run(ask())


def test_a_kept_connection_found_closed_before_the_request_is_replaced() -> None:
    with serving(closing_after_each) as server:
        first, second = ask_twice(server, server.closed)

        assert (first.status, second.status) == (200, 200)
        assert second.earlier == 0
        assert next(server.connections) == 2


def test_a_kept_connection_found_reset_before_the_request_is_replaced() -> None:
    def resetting_after_each(server: Server, connection: socket.socket, number: int) -> bool:
        answering(server, connection, number)
        assert server.released.wait(10)
        reset(connection)
        return False

    with serving(resetting_after_each) as server:

        async def ask() -> list[Answer]:
            with contextlib.closing(Client(0, request_to(server.target), keeps=True)) as client:
                first = await client.ask()
                server.released.set()
                assert await asyncio.to_thread(server.closed.wait, 10)
                return [first, await client.ask()]

        assert [answer.status for answer in asyncio.run(ask())] == [200, 200]
        assert next(server.connections) == 2


@pytest.mark.parametrize("unread", [True, False])
def test_a_request_written_into_a_connection_that_closes_is_lost(unread: bool) -> None:
    def closing_on_the_second(server: Server, connection: socket.socket, number: int) -> bool:
        if number == 1:
            answering(server, connection, number)
            if unread:
                connection.recv(1, socket.MSG_PEEK)
            return not unread
        return False

    with serving(closing_on_the_second) as server:
        first, second = ask_twice(server)

        assert first.status == 200
        assert second.failure in ({"reset", "cut"} if unread else {"cut"})
        assert second.earlier == 1
        assert next(server.connections) == 1
        assert server.asked == ([1] if unread else [1, 2])


def test_the_asked_rate_is_driven_and_reported() -> None:
    with serving(answering) as server:
        with Load(request_to(server.target), 200, pause=0.2, capacity=400) as load:
            load.wait_for(400)
        report = load.report()

    assert 180 < report.rate < 202
    assert 0 < report.cpu < 1
    assert 0 < report.p50 <= report.p99 <= report.longest
    lines = str(report).splitlines()
    assert len(lines) == 1
    assert "0 lost" in lines[0]
    assert "/s of 200.0 asked, 5" in lines[0] or "/s of 200.0 asked, 4" in lines[0]


def test_requests_that_wait_for_a_client_are_late() -> None:
    with serving(answering) as server:
        with Load(request_to(server.target), 500, clients=2, pause=0.1) as load:
            load.wait_for(30)
        report = load.report()

    assert report.clients == 2
    assert report.late > 10
    assert report.rate < 250
    assert not report.lost


def test_leaving_the_block_waits_for_the_requests_under_way() -> None:
    def answering_when_released(server: Server, connection: socket.socket, number: int) -> bool:
        assert server.released.wait(10)
        return answering(server, connection, number)

    with serving(answering_when_released) as server:
        with Load(request_to(server.target), 100, pause=0.1) as load:
            wait_until(lambda: len(server.asked) >= 5)
            threading.Timer(0.1, server.released.set).start()
        assert len(load.answers) == len(server.asked)
        assert not load.report().lost


def test_bodies_are_kept_only_if_asked_for() -> None:
    with serving(answering) as server:
        for keep_bodies in (True, False):
            request = Request(server.target, "/predict", BODY, keep_bodies=keep_bodies)
            with Load(request, 100, pause=0.1) as load:
                load.wait_for(5)
            expected = ANSWER if keep_bodies else b""
            assert {answer.body for answer in load.answers} == {expected}


def test_a_small_load_does_not_count() -> None:
    with serving(answering) as server, Load(request_to(server.target), 100, pause=0.1) as load:
        load.wait_for(5)
    with pytest.raises(AssertionError, match="does not count under 2,000 requests"):
        load.report().check()


def test_the_generators_own_failure_is_raised_not_counted() -> None:
    load = Load(request_to(("127.0.0.1", 1 << 16)), 100)
    with pytest.raises(ExceptionGroup), load, pytest.raises(ExceptionGroup) as waiting:
        load.wait_for(1, seconds=10)
    assert waiting.value.subgroup(OverflowError)
    assert not load.answers


def test_capacity_is_what_a_few_clients_get_answered() -> None:
    with serving(answering) as server:
        capacity = measure_capacity(request_to(server.target), clients=4, seconds=0.5)

        assert next(server.connections) == 4
        assert len(server.asked) * 0.9 < capacity * 0.5 <= len(server.asked)


def test_a_capacity_with_lost_requests_is_refused() -> None:
    with (
        serving(busy_now_and_then) as server,
        pytest.raises(AssertionError, match="status-503 after"),
    ):
        measure_capacity(request_to(server.target), clients=1, seconds=5)
