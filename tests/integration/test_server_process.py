"""The server as processes: how it starts, what it counts, what it survives, what it leaves."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server_process import (
    ROOT,
    Caller,
    ServerProcess,
    assert_problem,
    get,
    metric,
    post,
    running,
    wait_until,
)

REQUESTS = 'tensorgate_requests_total{model="clothing-model",outcome="ok",version="3"}'
STAGES = 'tensorgate_stage_seconds_count{model="clothing-model",stage="decode",version="3"}'


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running(workers=2, threads=2) as process:
        wait_until(lambda: len(processes(process, 8)) == 2)
        yield process


def processes(server: ServerProcess, connections: int) -> dict[int, int]:
    """Open connections together, and say how many each worker process has taken."""
    callers = [Caller(server.address) for _ in range(connections)]
    taken: dict[int, int] = {}
    for caller in callers:
        process = caller.ask(get("/")).json["process"]
        taken[process] = taken.get(process, 0) + 1
    for caller in callers:
        caller.close()
    return taken


def takes_connections(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def start(
    *arguments: str, options: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_wrong_setting_stops_the_start_with_one_line() -> None:
    ended = start(WORKERS="many")

    assert ended.returncode == 2
    assert ended.stderr == "tensorgate: WORKERS='many' must be a whole number from 0 to 256\n"


@pytest.mark.parametrize("argument", ["--help", "--bind=0.0.0.0:1"])
def test_an_argument_is_refused_with_where_the_settings_are(argument: str) -> None:
    ended = start(argument)

    assert ended.returncode == 2
    assert f"takes no arguments ({argument!r})" in ended.stderr
    assert "docs/settings.md" in ended.stderr


def test_a_python_without_the_packages_is_told_which_has_them() -> None:
    ended = start(options=("-S",))

    assert ended.returncode == 2
    assert "has no PIL, dns, flask," in ended.stderr
    assert ".venv/gateway/bin/python" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_taken_port_stops_the_start_with_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = start(BIND=f"127.0.0.1:{port}")

    assert ended.returncode == 1
    assert ended.stderr == (
        f"tensorgate: cannot listen on 127.0.0.1:{port} (Address already in use): "
        "stop what listens there, or set BIND to another address.\n"
    )


def test_a_request_is_answered_whole(server: ServerProcess) -> None:
    with Caller(server.address) as caller:
        answer = caller.ask(post("/predict?top=3", b'{"url": "x"}'))

    assert answer.status == 200
    asked = [answer.json[name] for name in ("method", "path", "query", "length")]
    assert asked == ["POST", "/predict", "top=3", 12]


def test_connections_are_shared_between_workers(server: ServerProcess) -> None:
    taken = processes(server, 20)

    assert len(taken) == 2
    assert min(taken.values()) >= 6


def test_counts_of_all_workers_are_added_up(server: ServerProcess) -> None:
    before = metric(server, REQUESTS), metric(server, STAGES)
    callers = [Caller(server.address) for _ in range(10)]
    seen = {caller.ask(get("/count")).json["process"] for caller in callers for _ in range(3)}
    connections = metric(server, "tensorgate_connections")
    for caller in callers:
        caller.close()

    assert len(seen) == 2
    assert metric(server, REQUESTS) == before[0] + 30
    assert metric(server, STAGES) == before[1] + 30
    assert connections == 10


def test_metrics_have_their_own_port_and_no_other_path(server: ServerProcess) -> None:
    with Caller(server.metrics_address) as caller:
        assert_problem(caller.ask(get("/predict")), 404, "not-found")
        assert caller.ask(get("/metrics")).headers["content-type"].startswith("text/plain")
    with Caller(server.address) as caller:
        assert caller.ask(get("/metrics")).json["path"] == "/metrics"


def test_a_killed_worker_is_replaced_and_its_counts_stay() -> None:
    with running(workers=1, threads=2) as server:
        with Caller(server.address) as caller:
            first = caller.ask(get("/count")).json["process"]
            os.kill(first, signal.SIGKILL)
            assert caller.closed()
        with Caller(server.address) as caller:
            second = caller.ask(get("/count")).json["process"]
            connections = metric(server, "tensorgate_connections")

        assert second != first
        assert connections == 1
        assert metric(server, REQUESTS) == 2


def test_the_log_has_a_line_a_request_that_cannot_be_forged(server: ServerProcess) -> None:
    path = "/a%0A%7B%22message%22:%20%22forged%22%7D?secret=1"
    with Caller(server.address) as caller:
        caller.ask(get(path, "X-Request-ID: the-line"))
    wait_until(lambda: any(line.get("request_id") == "the-line" for line in tuple(server.lines)))
    line = next(line for line in server.lines if line.get("request_id") == "the-line")

    assert line["path"] == '/a\n{"message": "forged"}'
    assert (line["method"], line["status"], line["caller"]) == ("GET", 200, "127.0.0.1")
    assert 0 <= line["seconds"] < 60
    assert "secret" not in json.dumps(line)
    assert not server.errors


def test_nothing_is_left_behind_and_what_was_left_is_removed(tmp_path: Path) -> None:
    shared = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path  # noqa: S108
    left = shared / f"tensorgate-metrics-left-{os.getpid()}"
    left.mkdir()
    (left / "lock").touch()
    with running(workers=1, threads=1) as server:
        server.wait_for_line("listening")
        with Caller(server.address) as caller:
            caller.ask(get("/"))
        mine = [path for path in shared.glob("tensorgate-metrics-*") if used_by(server, path)]
        removed = not left.exists()

    assert removed
    assert len(mine) == 1
    assert not mine[0].exists()


def used_by(server: ServerProcess, path: Path) -> bool:
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    return any(str(path) in os.readlink(entry) for entry in descriptors.iterdir())


def test_an_application_that_cannot_be_made_ends_the_process() -> None:
    with running("tests.support.broken_gateway", workers=2) as server:
        assert server.process.wait(20) != 0
        assert server.wait_for_line("Exception in worker process")["trace"]


def test_a_log_that_nobody_reads_stops_no_request_and_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    settings = {"BIND": f"127.0.0.1:{address[1]}", "METRICS_BIND": "127.0.0.1:0"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.dummy_gateway"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **settings, "WORKERS": "1"},
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        wait_until(lambda: takes_connections(address))
        with Caller(address) as caller:
            statuses = {caller.ask(get("/")).status for _ in range(500)}
        process.terminate()
        assert process.wait(30) == 0
    assert statuses == {200}
