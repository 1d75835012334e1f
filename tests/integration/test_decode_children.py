"""The real process: its decode children killed, stopped and left, their worker killed."""

import base64
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.child_processes import alive, children
from tests.support.hostile_pictures import jpeg_of_many_scans
from tests.support.processes import Answer, Gateway, gateway, wait_until
from tests.support.stub_serving import StubServing
from tests.support.waiting import wait_until as wait_for

ENDLESS = jpeg_of_many_scans(side=2000, scans=10_000)
TIMEOUT = 20


@pytest.fixture(scope="module")
def started() -> Iterator[Gateway]:
    """One worker with one child, so that it is known who decodes."""
    settings: dict[str, Any] = {"threads": 4, "decode_children": 1, "request_timeout": TIMEOUT}
    with StubServing() as stub, gateway(stub.address, **settings) as running:
        yield running


def picture() -> bytes:
    return (Path(__file__).parents[1] / "data/golden_pictures/baseline-420.jpg").read_bytes()


def upload(running: Gateway, data: bytes) -> Answer:
    return running.ask("POST", "/predict", data, content_type="image/jpeg", timeout=2 * TIMEOUT)


def the_child(running: Gateway) -> int:
    """The only child of the only worker, once it has begun."""
    (worker,) = running.workers()
    wait_until(lambda: len(children(worker)) == 1, "one child")
    wait_until(lambda: upload(running, picture()).status == 200, "it decodes")
    return children(worker)[0]


def metric(running: Gateway, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", running.metrics(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def ended(running: Gateway, reason: str) -> float:
    return metric(running, f'tensorgate_decode_children_ended_total{{reason="{reason}"}}')


def decoding(running: Gateway) -> bool:
    return metric(running, "tensorgate_decode_budget_in_use_bytes") > 2000 * 2000


def begin(threads: ThreadPoolExecutor, running: Gateway) -> "Future[Answer]":
    """Have the endless picture decoded; returns once a child is at it."""
    answer = threads.submit(upload, running, ENDLESS)
    wait_until(lambda: decoding(running), "decoding")
    return answer


def test_a_killed_child_is_one_failed_answer(started: Gateway) -> None:
    child, workers, before = the_child(started), started.workers(), ended(started, "died")
    with ThreadPoolExecutor(4) as threads:
        failing = begin(threads, started)
        others = [threads.submit(upload, started, picture()) for _ in range(3)]
        os.kill(child, signal.SIGKILL)
        answer = failing.result()

        assert (answer.status, answer.json["type"]) == (500, "urn:tensorgate:problem:decoder-died")
        assert [other.result().status for other in others] == [200] * 3
    assert started.workers() == workers
    assert ended(started, "died") == before + 1
    assert the_child(started) != child


def test_one_of_a_list_fails_alone_when_its_child_is_killed(started: Gateway) -> None:
    child = the_child(started)
    boundary = "xyz"
    head = 'Content-Disposition: form-data; name="file"; filename="a.jpg"'
    pictures = [picture(), ENDLESS, picture()]
    parts = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + each + b"\r\n" for each in pictures]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    media = f"multipart/form-data; boundary={boundary}"
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(
            lambda: started.ask("POST", "/predict", body, content_type=media, timeout=2 * TIMEOUT)
        )
        wait_until(lambda: asked.done() or decoding(started), "decoding")
        os.kill(child, signal.SIGKILL)
        answer = asked.result()
    first, second, third = answer.json["predictions"]
    assert first == third
    assert "scores" in first
    assert second["error"]["type"] == "urn:tensorgate:problem:decoder-died"


def test_a_stopped_child_costs_no_more_than_the_deadline() -> None:
    settings: dict[str, Any] = {"decode_children": 1, "request_timeout": 2}
    with StubServing() as stub, gateway(stub.address, **settings) as running:
        child, workers = the_child(running), running.workers()
        with ThreadPoolExecutor(1) as threads:
            asked = begin(threads, running)
            os.kill(child, signal.SIGSTOP)
            answer = asked.result()

        assert (answer.status, answer.json["type"].rpartition(":")[2]) == (504, "deadline-exceeded")
        assert the_child(running) != child
        assert ended(running, "deadline") == 1
        assert running.workers() == workers


@pytest.mark.case("C19")
def test_ten_thousand_scans_are_cut_at_the_deadline() -> None:
    settings: dict[str, Any] = {"decode_children": 1, "request_timeout": 2}
    with StubServing() as stub, gateway(stub.address, **settings) as running:
        workers = running.workers()
        answer = upload(running, ENDLESS)

        assert (answer.status, answer.json["type"].rpartition(":")[2]) == (504, "deadline-exceeded")
        wait_until(lambda: upload(running, picture()).status == 200, "others are served")
        assert metric(running, "tensorgate_decode_budget_in_use_bytes") == 0
        assert running.workers() == workers


def test_a_caller_that_hangs_up_gives_its_child_back(started: Gateway) -> None:
    child, before = the_child(started), ended(started, "caller-gone")
    head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n"
    head += f"Content-Length: {len(ENDLESS)}\r\n\r\n"
    with socket.create_connection(started.address) as caller:
        caller.sendall(head.encode() + ENDLESS)
        wait_until(lambda: decoding(started), "decoding")

    wait_for(lambda: not Path(f"/proc/{child}").exists(), 5, "the child's end")
    wait_for(lambda: metric(started, "tensorgate_decode_budget_in_use_bytes") == 0, 5)
    assert ended(started, "caller-gone") == before + 1
    assert upload(started, picture()).status == 200


def test_a_killed_worker_leaves_no_child_and_no_file(started: Gateway) -> None:
    shared = Path("/dev/shm")  # noqa: S108 - only listed
    child, (worker,) = the_child(started), started.workers()
    before = {path.name for path in shared.iterdir()}
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(upload, started, ENDLESS)
        wait_until(lambda: decoding(started), "decoding")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not alive(child), "the child's end")
        assert asked.exception() is not None
    wait_until(lambda: started.workers() not in ([], [worker]), "another worker")
    wait_until(lambda: upload(started, picture()).status == 200, "predictions come back")
    names = {path.name for path in shared.iterdir()} - before
    assert [name for name in names if "picture" in name or "tensorgate" in name] == []


def test_pictures_that_are_decoded_when_a_stop_comes_are_answered() -> None:
    """Ctrl-C and a service manager's stop reach every process: children are not to heed them."""
    settings: dict[str, Any] = {"decode_children": 1, "request_timeout": 3}
    with StubServing() as stub, gateway(stub.address, **settings) as running:
        child = the_child(running)
        with ThreadPoolExecutor(1) as threads:
            asked = begin(threads, running)
            os.kill(child, signal.SIGTERM)
            running.process.popen.terminate()
            answer = asked.result()

        assert answer.json["type"] == "urn:tensorgate:problem:deadline-exceeded"
        assert running.process.popen.wait(20) == 0
        assert not alive(child)


def test_no_decoder_is_loaded_in_a_worker_and_no_grpc_in_a_child(started: Gateway) -> None:
    child, (worker,) = the_child(started), started.workers()
    in_worker, in_child = (Path(f"/proc/{pid}/maps").read_text() for pid in (worker, child))

    assert "PIL/_imaging" in in_child
    assert "cygrpc" not in in_child
    assert "cygrpc" in in_worker
    assert "PIL/" not in in_worker


def test_a_child_that_was_killed_while_idle_costs_no_answer(started: Gateway) -> None:
    body = json.dumps({"image": base64.b64encode(picture()).decode()}).encode()
    for _ in range(3):
        child = the_child(started)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda child=child: not alive(child), "its end")  # type: ignore[misc]
        assert started.ask("POST", "/predict", body).status == 200
