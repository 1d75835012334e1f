"""Waits of a fetch end by its clock or when the caller hangs up; places and connections are few."""

import ipaddress
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.deadline import Deadline
from gateway.errors import CallerGone, ImageTooLarge, Overloaded
from gateway.scoring.fetch.addresses import Address
from gateway.scoring.fetch.connection import Connection, Unreachable
from gateway.scoring.fetch.transport import Door, IdleConnections, Transport
from gateway.scoring.fetch.url import PictureURL
from gateway.scoring.fetch.waiting import (
    SMALL_PICTURE,
    Allowance,
    Memory,
    Patience,
    Places,
    TimeUp,
)

LONG = 60.0


def patience(seconds: float, cancelled: threading.Event | None = None) -> Patience:
    return Patience(Deadline.after(seconds), cancelled)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def test_a_wait_for_a_socket_ends_with_the_time(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeUp):
        patience(0.05).wait_for_socket(pair[0], select.POLLIN)


def test_a_wait_for_a_socket_ends_when_something_comes_or_the_other_side_goes(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[1].sendall(b"x")
    patience(LONG).wait_for_socket(pair[0], select.POLLIN)
    pair[0].recv(1)
    pair[1].close()
    patience(LONG).wait_for_socket(pair[0], select.POLLIN)


def test_a_wait_ends_when_the_caller_hangs_up(pair: tuple[socket.socket, socket.socket]) -> None:
    cancelled = threading.Event()
    hanging_up = threading.Timer(0.05, cancelled.set)
    hanging_up.start()
    started = time.monotonic()
    with pytest.raises(CallerGone):
        patience(LONG, cancelled).wait_for_socket(pair[0], select.POLLIN)
    hanging_up.join()
    assert time.monotonic() - started < LONG / 3


def test_no_byte_is_taken_or_sent_once_the_time_is_up(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Also when the socket is ready, as that of a host that floods always is."""
    pair[1].sendall(b"x")
    connection = Connection(pair[0])
    with pytest.raises(TimeUp):
        connection.read_some(1, patience(0))
    with pytest.raises(TimeUp):
        connection.send(b"x", patience(0))
    assert connection.read_some(1, patience(LONG)) == b"x"


def test_no_time_is_no_wait() -> None:
    with pytest.raises(TimeUp):
        patience(0).check()


def test_a_pause_ends_with_its_seconds_or_the_deadline() -> None:
    started = time.monotonic()
    patience(LONG).pause(0.05)
    assert time.monotonic() - started >= 0.05
    patience(LONG).pause(-1)
    patience(0.05).pause(LONG)
    assert time.monotonic() - started < LONG / 3


def test_places_are_so_many_for_each_key() -> None:
    places = Places(2, 9, LONG)
    with ExitStack() as held:
        for key, request in (("a", 1), ("a", 2), ("b", 3)):
            held.enter_context(places.hold(key, request, patience(LONG)))
        with pytest.raises(Overloaded), places.hold("a", 4, patience(0.05)):
            raise AssertionError("a third request")
    with places.hold("a", 5, patience(0.05)), places.hold("a", 6, patience(0.05)):
        pass


def test_the_fetches_of_one_request_have_one_place_up_to_their_own_number() -> None:
    places = Places(1, 2, LONG)
    with (
        places.hold("a", "list", patience(LONG)),
        places.hold("a", "list", patience(LONG)),
        pytest.raises(Overloaded),
        places.hold("a", "list", patience(0.05)),
    ):
        raise AssertionError("a third fetch")
    with (
        places.hold("a", "list", patience(LONG)),
        pytest.raises(Overloaded),
        places.hold("a", "other", patience(0.05)),
    ):
        raise AssertionError("a second request")


def test_places_that_nobody_leaves_are_not_waited_for() -> None:
    places = Places(1, 1, stuck_after=0.05)
    with places.hold("a", 1, patience(LONG)):
        for request in (2, 3):
            with pytest.raises(Overloaded), places.hold("a", request, patience(LONG)):
                raise AssertionError("a second request")
        with places.hold("b", 4, patience(LONG)):
            pass


def test_a_place_is_given_back_after_an_error_and_goes_to_who_waits() -> None:
    places = Places(1, 1, LONG)
    entered = threading.Event()

    def wait_and_enter() -> None:
        with places.hold("a", 1, patience(LONG)):
            entered.set()

    def fail_inside() -> None:
        with places.hold("a", 2, patience(LONG)):
            waiting.start()
            assert not entered.is_set()
            raise ValueError("inside")

    waiting = threading.Thread(target=wait_and_enter)
    with pytest.raises(ValueError, match="inside"):
        fail_inside()
    assert entered.wait(10)
    waiting.join()


def test_a_caller_that_hangs_up_stops_waiting_for_a_place() -> None:
    places, cancelled = Places(1, 1, LONG), threading.Event()
    cancelled.set()
    with (
        places.hold("a", 1, patience(LONG)),
        pytest.raises(CallerGone),
        places.hold("a", 2, patience(LONG, cancelled)),
    ):
        raise AssertionError("a second place")


class Line(Connection):
    """A connection that notes whether it was closed."""

    def __init__(self, usable: bool = True) -> None:
        super().__init__(socket.socket())
        super().close()
        self.usable = usable
        self.closed = False

    def is_idle(self) -> bool:
        return self.usable

    def close(self) -> None:
        self.closed = True


def door(scheme: str = "http", host: str = "a.com", port: int = 80, last: int = 1) -> Door:
    return Door(scheme, host, port, ipaddress.IPv4Address(last))


def test_a_connection_is_kept_for_its_door_alone_and_taken_once() -> None:
    idle, line = IdleConnections(), Line()
    idle.keep(door(), line)
    for other in (door("https"), door(host="b.com"), door(port=81), door(last=2)):
        assert idle.take(other) is None
    assert idle.take(door()) is line
    assert idle.take(door()) is None


def test_the_connection_used_last_is_taken_first() -> None:
    idle, lines = IdleConnections(), [Line(), Line()]
    for line in lines:
        idle.keep(door(), line)
    assert [idle.take(door()), idle.take(door())] == lines[::-1]


def test_kept_connections_are_bounded_and_the_oldest_goes() -> None:
    idle, lines = IdleConnections(limit=2), [Line() for _ in range(3)]
    for line in lines:
        idle.keep(door(), line)
    assert [line.closed for line in lines] == [True, False, False]


def test_a_connection_is_kept_for_its_time_alone() -> None:
    idle, line = IdleConnections(seconds=0), Line()
    idle.keep(door(), line)
    assert idle.take(door()) is None
    assert line.closed


def test_a_connection_with_something_left_on_it_is_closed_and_the_next_is_taken() -> None:
    idle, clean, poisoned = IdleConnections(), Line(), Line(usable=False)
    idle.keep(door(), clean)
    idle.keep(door(), poisoned)
    assert idle.take(door()) is clean
    assert poisoned.closed


def test_closing_closes_all() -> None:
    idle, line = IdleConnections(), Line()
    idle.keep(door(), line)
    idle.close()
    assert line.closed


def of(request: str) -> Allowance:
    return Allowance(request, 10, Memory(0))


def test_the_addresses_of_an_ipv6_64_share_their_places() -> None:
    """Whatever name leads to them: who has one of them has all."""
    url = PictureURL("http", "a.test", None, 80, "/")
    met: list[str] = []

    def meanwhile(address: str) -> None:
        try:
            transport.get(url, (ipaddress.ip_address(address),), of("another"), patience(LONG))
        except (Overloaded, Unreachable) as error:
            met.append(type(error).__name__)

    def dial(address: Address, _port: int, _patience: Patience) -> socket.socket:
        if not met:
            for other in ("2600::2", "2600::ffff:0:0:1", "2600:0:0:1::1"):
                meanwhile(other)
        raise Unreachable(str(address))

    transport = Transport(Places(1, 1, 0.05), ssl.create_default_context(), "word", dial)
    with pytest.raises(Unreachable):
        transport.get(url, (ipaddress.ip_address("2600::1"),), of("one"), patience(LONG))
    assert met == ["Overloaded", "Overloaded", "Unreachable"]


KIB = 1024


def test_pictures_share_memory_until_they_are_let_go() -> None:
    """All but their first 256 KiB."""
    memory = Memory(100 * KIB)
    first, second = (Allowance(None, 10**9, memory) for _ in range(2))
    first.grow_to(256 * KIB + 60 * KIB)
    first.grow_to(256 * KIB + 70 * KIB)
    second.grow_to(256 * KIB + 30 * KIB)
    with pytest.raises(Overloaded):
        second.grow_to(256 * KIB + 31 * KIB)
    first.let_go()
    first.let_go()
    second.grow_to(256 * KIB + 100 * KIB)
    with pytest.raises(Overloaded):
        Allowance(None, 10**9, memory).grow_to(256 * KIB + 1)
    Allowance(None, 10**9, memory).grow_to(SMALL_PICTURE)


def test_a_picture_that_nobody_waits_for_any_more_takes_no_memory() -> None:
    late = Allowance(None, 10**9, Memory(10**9))
    late.let_go()
    with pytest.raises(CallerGone):
        late.grow_to(1)


def test_no_picture_is_larger_than_the_most() -> None:
    allowance = Allowance(None, 10, Memory(10**9))
    allowance.grow_to(10)
    with pytest.raises(ImageTooLarge):
        allowance.grow_to(11)
