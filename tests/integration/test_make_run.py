"""`make run`, without make: the same program with its ports moved."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "gateway" / "bin" / "python"
START_SECONDS = 150.0
STOP_SECONDS = 45.0
NAMES = ("GATEWAY_PORT", "METRICS_PORT", "GRPC_PORT", "REST_PORT", "SAMPLES_PORT")


def free_ports() -> dict[str, str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in NAMES]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [str(each.getsockname()[1]) for each in sockets]
    return dict(zip(NAMES, ports, strict=True))


@dataclass
class Run:
    """The running program, and what it has printed."""

    process: subprocess.Popen[str]
    ports: dict[str, str]
    printed: str = ""
    pids: dict[str, int] = field(default_factory=dict)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.ports['GATEWAY_PORT']}{path}"

    def child(self, module: str) -> int:
        """The process id of the server that runs the module."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in children.read_text().split():
            if f"\0-m\0{module}\0" in Path(f"/proc/{pid}/cmdline").read_text() + "\0":
                return int(pid)
        raise AssertionError(f"{module} is not running")

    def finish(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=STOP_SECONDS)
        return self.process.returncode, self.printed + out


@contextlib.contextmanager
def start() -> Iterator[Run]:
    ports = free_ports()
    with subprocess.Popen(
        [PYTHON, "run.py"],
        cwd=ROOT,
        env={**os.environ, **ports},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        run = Run(process, ports)
        assert process.stdout is not None
        give_up = time.monotonic() + START_SECONDS
        try:
            while "Ctrl-C stops everything" not in run.printed:
                line = process.stdout.readline()
                assert line, run.printed
                assert time.monotonic() < give_up, run.printed
                run.printed += line
            yield run
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(STOP_SECONDS)


@pytest.fixture(scope="module")
def running() -> Iterator[Run]:
    """One that no test stops."""
    with start() as run:
        yield run


@pytest.fixture
def ending() -> Iterator[Run]:
    """One that the test ends."""
    with start() as run:
        yield run


def refuses_connections(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) != 0


def test_the_printed_commands_work(running: Run) -> None:
    commands = re.findall(r"^  (curl .*)$", running.printed, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        finished = subprocess.run(
            ["sh", "-c", command.replace("curl", "curl --silent --show-error --fail-with-body", 1)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert finished.returncode == 0, (command, finished)
        assert json.loads(finished.stdout)


def test_ctrl_c_stops_everything(ending: Run) -> None:
    ending.process.send_signal(signal.SIGINT)
    code, printed = ending.finish()
    assert code == 0, printed
    assert printed.endswith("stopped\n")
    for port in ending.ports.values():
        assert refuses_connections(port)


def test_a_web_page_cannot_use_the_gateway(running: Run) -> None:
    rebound = requests.get(running.url("/models"), headers={"Host": "evil.example"}, timeout=10)
    assert rebound.status_code in (403, 421)
    origin = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    crossed = requests.post(running.url("/predict"), headers=origin, data="{}", timeout=10)
    assert crossed.status_code == 403


def test_of_private_addresses_only_the_sample_server_may_be_fetched(running: Run) -> None:
    rest = f"http://127.0.0.1:{running.ports['REST_PORT']}/v1/models/clothing-model"
    for url in (rest, "http://10.0.0.1/a.jpg", "http://[::1]/a.jpg"):
        answer = requests.post(running.url("/predict"), json={"url": url}, timeout=30)
        assert answer.status_code in (400, 422), url
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_when_the_model_server_dies_the_gateway_stops_and_the_command_says_why(
    ending: Run,
) -> None:
    os.kill(ending.child("model.server"), signal.SIGKILL)
    code, printed = ending.finish()
    assert code == 1
    assert "tensorgate: the model server was ended by SIGKILL." in printed
    assert refuses_connections(ending.ports["GATEWAY_PORT"])


def test_when_the_gateway_dies_the_model_server_stops_and_the_command_says_why(
    ending: Run,
) -> None:
    os.kill(ending.child("gateway"), signal.SIGTERM)
    code, printed = ending.finish()
    assert code == 1
    assert "tensorgate: the gateway was stopped." in printed
    assert refuses_connections(ending.ports["GRPC_PORT"])


def test_the_suggestion_moves_every_taken_port() -> None:
    with contextlib.ExitStack() as stack:
        ports = free_ports()
        for name in ("GRPC_PORT", "SAMPLES_PORT"):
            stack.enter_context(socket.create_server(("127.0.0.1", int(ports[name]))))
        finished = run_to_the_end(ports)
    command = re.search(r"`(.*) make run`", finished.stderr)
    assert command
    moved = dict(pair.split("=") for pair in command[1].split())
    assert set(moved) == {"GRPC_PORT", "SAMPLES_PORT"}
    assert all(refuses_connections(port) for port in moved.values())
    assert len(set({**ports, **moved}.values())) == len(NAMES)


def test_a_wrong_setting_is_said_before_anything_is_started() -> None:
    finished = run_to_the_end({**free_ports(), "THREADS": "many"})
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == "tensorgate: THREADS='many' must be a whole number from 1 to 256.\n"


def test_keys_are_for_a_gateway_that_is_started_by_itself() -> None:
    finished = run_to_the_end({**free_ports(), "API_KEYS_FILE": "/nowhere/keys"})
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == (
        "tensorgate: `make run` asks for a prediction without an API key: unset API_KEYS_FILE, or "
        "start the gateway with it by itself (docs/access.md).\n"
    )


def run_to_the_end(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "run.py"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_taken_port_is_said_in_one_sentence(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finished = run_to_the_end({**free_ports(), name: port})
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"tensorgate: port {port} (Address already in use) cannot")
    assert name in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_a_port_asked_for_twice_is_said_in_one_sentence() -> None:
    finished = run_to_the_end({**free_ports(), "GATEWAY_PORT": "9000", "METRICS_PORT": "9000"})
    assert finished.returncode == 1
    assert finished.stderr == (
        "tensorgate: GATEWAY_PORT and METRICS_PORT are both 9000: give each its own port.\n"
    )
