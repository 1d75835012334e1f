"""SIGTERM: what has come is answered, nothing new is taken, nobody loses a request."""

import os
import random
import signal
import threading
import time

import pytest

from tests.support.server_process import (
    Caller,
    Response,
    ServerProcess,
    assert_problem,
    get,
    metric,
    post,
    running,
    wait_until,
)

MARGIN = 3.0
"""Seconds by which a busy machine may be late."""
LONG_DELAY = 100
"""Seconds of a delay that a test ends by SIGINT."""


def stop(server: ServerProcess) -> None:
    server.process.send_signal(signal.SIGTERM)


def test_a_request_in_flight_is_answered_and_the_process_ends_well() -> None:
    with running(workers=2, threads=2) as server, Caller(server.address) as caller:
        caller.send(get("/slow?1"))
        wait_until(lambda: in_flight(server) == 1)
        stop(server)
        answer = caller.read()

        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.process.wait(10) == 0


def in_flight(server: ServerProcess) -> float:
    return metric(server, "tensorgate_in_flight")


def test_a_request_that_comes_during_the_drain_is_answered_and_told_to_close() -> None:
    with running(workers=1, threads=4) as server:
        busy, idle, probe = (Caller(server.address) for _ in range(3))
        for caller in (idle, probe):
            assert caller.ask(get("/")).status == 200
        busy.send(get("/slow?2"))
        wait_until(lambda: in_flight(server) == 1)
        stop(server)
        wait_until(lambda: not can_connect(server))
        late = idle.ask(post("/predict", b"{}"))
        readiness = probe.ask(get("/readyz"))
        last = busy.read()
        for caller in (busy, idle, probe):
            caller.close()

        assert (late.status, late.headers["connection"]) == (200, "close")
        assert late.json["draining"] is True
        assert readiness.status == 503
        assert last.status == 200
        assert server.process.wait(10) == 0


def can_connect(server: ServerProcess) -> bool:
    try:
        Caller(server.address).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_silent_connection_does_not_hold_the_process_for_long() -> None:
    with running(workers=1, threads=2) as server, Caller(server.address) as idle:
        assert idle.ask(get("/")).status == 200
        stop(server)
        start = time.monotonic()

        assert server.process.wait(20) == 0
        assert time.monotonic() - start < 5 + MARGIN


def test_the_drain_ends_in_its_time_whatever_is_still_running() -> None:
    with running(workers=1, threads=2, drain_timeout=1) as server, Caller(server.address) as caller:
        caller.send(get("/stuck?15"))
        wait_until(lambda: in_flight(server) == 1)
        stop(server)
        start = time.monotonic()

        assert server.process.wait(20) == 0
        assert time.monotonic() - start < 1 + MARGIN


def test_an_interrupt_ends_the_process_at_once() -> None:
    with running(workers=2, threads=2) as server, Caller(server.address) as caller:
        caller.send(get("/slow?10"))
        wait_until(lambda: in_flight(server) == 1)
        start = time.monotonic()
        server.process.send_signal(signal.SIGINT)

        assert server.process.wait(10) == 0
        assert time.monotonic() - start < MARGIN


class Patron:
    """A keep-alive client that pauses between requests and never asks twice."""

    def __init__(self, address: tuple[str, int], pause: float) -> None:
        self._pause = pause
        self._random = random.Random(pause)  # noqa: S311
        self._caller = Caller(address)
        self.answered = 0
        self.lost = 0

    def run(self) -> None:
        while True:
            try:
                answer = self._caller.ask(post("/predict", b'{"url": "x"}'))
            except (OSError, EOFError):
                self.lost += 1
                break
            self.answered += 1
            if answer.headers.get("connection") == "close":
                break
            time.sleep(self._random.uniform(self._pause / 2, self._pause))
        self._caller.close()


def test_no_keep_alive_client_with_pauses_loses_a_request() -> None:
    with running(workers=2, threads=2) as server:
        patrons = [Patron(server.address, pause) for pause in [0.1, 0.5, 2.0, 4.0] * 10]
        threads = [threading.Thread(target=patron.run) for patron in patrons]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(patron.answered for patron in patrons))
        stop(server)
        for thread in threads:
            thread.join(20)

        assert [patron.lost for patron in patrons] == [0] * 40
        assert server.process.wait(20) == 0


@pytest.mark.parametrize(("workers", "delay"), [(1, 0), (2, 0), (2, 1)])
def test_no_connection_that_was_made_is_left_without_an_answer(workers: int, delay: int) -> None:
    with running(workers=workers, threads=2, drain_delay=delay) as server:
        address = server.address
        lost: list[str] = []
        answered = threading.Semaphore(0)

        def knock() -> None:
            while True:
                try:
                    caller = Caller(address)
                except ConnectionRefusedError:
                    return
                with caller:
                    try:
                        caller.ask(get("/"))
                        answered.release()
                    except (OSError, EOFError) as error:
                        lost.append(repr(error))

        threads = [threading.Thread(target=knock) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            assert answered.acquire(timeout=10)
        stop(server)
        for thread in threads:
            thread.join(20)

        assert lost == []


def ask(server: ServerProcess, path: str) -> Response:
    """The answer to a new connection."""
    with Caller(server.address) as caller:
        return caller.ask(get(path))


def is_draining(server: ServerProcess) -> bool:
    return ask(server, "/readyz").status == 503


def begin_delay(server: ServerProcess) -> None:
    """Stop a server that has answered, and wait until its workers know."""
    stop(server)
    server.wait_for_line(f"new connections are still taken for {LONG_DELAY} s")
    wait_until(lambda: is_draining(server))


def test_in_the_delay_new_connections_are_answered_and_told_to_close() -> None:
    with running(workers=2, threads=2, drain_delay=LONG_DELAY) as server:
        with Caller(server.address) as idle:
            assert idle.ask(get("/")).headers.get("connection") != "close"
            begin_delay(server)
            answers = [idle.ask(get("/"))]
        for request in [get("/"), post("/predict", b"{}"), get("/healthz")] * 4:
            with Caller(server.address) as newcomer:
                answers.append(newcomer.ask(request))
                assert newcomer.closed()
        server.process.send_signal(signal.SIGINT)

        assert server.process.wait(MARGIN) == 0
        assert {answer.status for answer in answers} == {200}
        assert {answer.headers.get("connection") for answer in answers} == {"close"}
        assert {answer.json["draining"] for answer in answers} == {True}


def test_in_the_delay_the_gateway_lives_and_is_not_ready() -> None:
    with running("gateway", workers=1, drain_delay=LONG_DELAY) as server:
        assert_problem(ask(server, "/readyz"), 503, "not-ready")
        begin_delay(server)
        readiness, health = ask(server, "/readyz"), ask(server, "/healthz")
        server.process.send_signal(signal.SIGQUIT)

        assert_problem(readiness, 503, "draining")
        assert (health.status, health.headers["connection"]) == (200, "close")
        assert server.process.wait(MARGIN) == 0


def test_after_the_delay_newcomers_are_refused_and_a_request_in_flight_is_answered() -> None:
    delay = 2.0  # more than the second that a caller whose SYN was dropped waits to repeat it
    with (
        running(workers=2, threads=2, drain_delay=delay, drain_timeout=5) as server,
        Caller(server.address) as caller,
    ):
        caller.send(get("/slow?3.5"))
        wait_until(lambda: in_flight(server) == 1)
        start = time.monotonic()
        stop(server)
        wait_until(lambda: is_draining(server))
        stop(server)
        wait_until(lambda: not can_connect(server))
        refused = time.monotonic()
        answer = caller.read()

        assert delay <= refused - start < delay + MARGIN
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.process.wait(10) == 0


def test_the_delay_and_the_drain_end_in_their_time_whatever_is_still_running() -> None:
    settings = {"drain_delay": 1, "drain_timeout": 1}
    with running(workers=1, threads=2, **settings) as server, Caller(server.address) as caller:
        caller.send(get("/stuck?15"))
        wait_until(lambda: in_flight(server) == 1)
        start = time.monotonic()
        stop(server)

        assert server.process.wait(20) == 0
        assert 2 <= time.monotonic() - start < 2 + MARGIN


def test_a_worker_that_dies_in_the_delay_is_replaced_by_one_that_drains() -> None:
    with running(workers=1, threads=2, drain_delay=LONG_DELAY) as server:
        with Caller(server.address) as idle:
            first = idle.ask(get("/")).json["process"]
            begin_delay(server)
            os.kill(first, signal.SIGKILL)
            assert idle.closed()
        answer = ask(server, "/")
        server.process.send_signal(signal.SIGINT)

        assert answer.json["process"] != first
        assert (answer.json["draining"], answer.headers["connection"]) == (True, "close")
        assert server.process.wait(MARGIN) == 0


def test_what_is_not_about_ending_is_not_heeded_in_the_delay() -> None:
    with running(workers=1, threads=2, drain_delay=LONG_DELAY) as server:
        assert ask(server, "/").status == 200
        begin_delay(server)
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGINT)

        assert server.process.wait(MARGIN) == 0
        assert "Handling signal: hup" not in [line["message"] for line in server.lines]
