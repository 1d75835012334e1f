"""The product's own processes, started as users start them, on ports that were free."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 30.0

Address = tuple[str, int]


def python(environment: str) -> str:
    """The Python of one of the project's environments: gateway, model or test."""
    return str(ROOT / ".venv" / environment / "bin" / "python")


def free_port() -> int:
    """A port of the loopback address that nothing listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Poll until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        threading.Event().wait(0.02)


@dataclass
class Process:
    """A running process and what it has written."""

    name: str
    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def follow(self) -> None:
        """Read what it writes until it ends."""
        assert self.popen.stdout is not None
        self.lines.extend(iter(self.popen.stdout.readline, ""))

    def alive(self) -> bool:
        assert self.popen.poll() is None, f"{self.name} ended with {self.popen.returncode}"
        return True

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()

    def kill(self) -> None:
        """End it without asking."""
        self.popen.kill()
        self.popen.wait()


@contextlib.contextmanager
def start(
    module: str, *arguments: str, venv: str, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """`python -m module …` in one of the environments; what it wrote is shown when a test fails."""
    popen = subprocess.Popen(
        [python(venv), "-m", module, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    process = Process(module, popen)
    reader = threading.Thread(target=process.follow)
    reader.start()
    try:
        yield process
    except BaseException:
        process.stop()
        reader.join()
        print(f"--- {module} wrote:", *(line.rstrip() for line in process.lines[-60:]), sep="\n")
        raise
    finally:
        process.stop()
        reader.join()
        if popen.stdout is not None:
            popen.stdout.close()


@contextlib.contextmanager
def model_server(*flags: str) -> Iterator[Address]:
    """`python -m model.server` with these flags; where its gRPC port answers."""
    address = ("127.0.0.1", free_port())
    arguments = [f"--port={address[1]}", "--rest_api_port=0", *flags]
    with start("model.server", *arguments, venv="model") as process:
        wait_until(lambda: process.alive() and listens(address), "the model is loaded", 120)
        yield address


def listens(address: Address) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gateway:
    """A running gateway, asked over HTTP."""

    process: Process
    address: Address
    metrics_address: Address

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        headers = {} if body is None else {"Content-Type": content_type}
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, fields, answer.read())

    def predict(self, fields: Mapping[str, object]) -> Answer:
        """`POST /predict` with these fields as JSON."""
        return self.ask("POST", "/predict", json.dumps(fields).encode())

    def metrics(self) -> str:
        """What `/metrics` says."""
        connection = http.client.HTTPConnection(*self.metrics_address, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        parent = self.process.popen.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        return [int(child) for child in children.split()]

    def ready(self) -> bool:
        """Whether `/readyz` passes now."""
        return self.ask("GET", "/readyz").status == 200


def targets(*servers: Address) -> str:
    """The value of TF_SERVING_HOST for these servers."""
    return ",".join(f"{host}:{port}" for host, port in servers)


@contextlib.contextmanager
def gateway(*servers: Address, wait: bool = True, **settings: object) -> Iterator[Gateway]:
    """`python -m gateway` in front of these model servers, from its own environment.

    With WITHOUT_GUARD in the tests' environment it runs without that guard: tests must then fail.

    wait: until every worker is ready; without it, until it listens.
    """
    module = "gateway"
    environment = {"BIND": "127.0.0.1:0", "METRICS_BIND": "127.0.0.1:0", "WORKERS": "1"}
    environment |= {"MODEL_WATCH_INTERVAL": "0.1", "TF_SERVING_HOST": targets(*servers)}
    environment |= {name.upper(): str(value) for name, value in settings.items()}
    if without := os.environ.get("WITHOUT_GUARD"):
        module = "tests.support.guards"
        environment["WITHOUT_GUARD"] = without
    with start(module, venv="gateway", environment=environment) as process:
        wait_until(lambda: process.alive() and bool(_listening(process)), "the gateway listens")
        found = _listening(process)
        made = Gateway(process, _address(found["address"]), _address(found["metrics_address"]))
        if wait:
            wait_until(lambda: process.alive() and made.ready(), "the gateway is ready")
        yield made


def _listening(process: Process) -> dict[str, str]:
    """The line in which the gateway says where it listens; empty before it does."""
    for line in tuple(process.lines):
        if '"listening"' in line:
            found: dict[str, str] = json.loads(line)
            return found
    return {}


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)
