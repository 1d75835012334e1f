"""Starts a gateway process with the dummy application, and speaks raw HTTP to it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DUMMY = "tests.support.dummy_gateway"


@dataclass
class ServerProcess:
    """A running gateway."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.errors.append(line)

    def wait_for_line(self, message: str, seconds: float = 20.0) -> dict[str, Any]:
        """The first log line with that message, once it is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in tuple(self.lines):
                if line["message"] == message:
                    return line
            if self.process.poll() is not None:
                break
            threading.Event().wait(0.01)
        raise AssertionError(f"no line {message!r} in {self.lines} {self.errors}")

    @property
    def address(self) -> tuple[str, int]:
        return self._address("address")

    @property
    def metrics_address(self) -> tuple[str, int]:
        return self._address("metrics_address")

    def _address(self, field_name: str) -> tuple[str, int]:
        host, _, port = self.wait_for_line("listening")[field_name].rpartition(":")
        return host, int(port)


@contextlib.contextmanager
def running(module: str = DUMMY, /, **settings: object) -> Iterator[ServerProcess]:
    """A gateway process with these settings, ended at the end.

    With WITHOUT_GUARD in the tests' environment the dummy runs without that guard.
    """
    environment = {"PATH": os.environ["PATH"], "BIND": "127.0.0.1:0", "METRICS_BIND": "127.0.0.1:0"}
    environment |= {name: os.environ[name] for name in ("WITHOUT_GUARD",) if name in os.environ}
    environment |= {name.upper(): str(value) for name, value in settings.items()}
    if module == DUMMY and (without := os.environ.get("WITHOUT_GUARD")):
        module = "tests.support.access_guards"
        environment["WITHOUT_GUARD"] = without
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = ServerProcess(process)
    reader = threading.Thread(target=server.read_log)
    reader.start()
    try:
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


@dataclass(frozen=True)
class Response:
    """One answer read from a socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


class Caller:
    """A raw connection."""

    def __init__(self, address: tuple[str, int], timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(address, timeout=timeout)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, *, head: bool = False) -> Response:
        """The next answer; `head` when there is no body whatever Content-Length says."""
        line = self._stream.readline()
        if not line:
            raise EOFError("the server closed the connection without an answer")
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := self._stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        bodiless = head or status < 200 or status == 204
        body = b"" if bodiless else self._stream.read(int(headers["content-length"]))
        return Response(status, headers, body)

    def ask(self, data: bytes, *, head: bool = False) -> Response:
        self.send(data)
        return self.read(head=head)

    def closed(self) -> bool:
        """Whether the server has closed its side; waits for it up to the timeout."""
        try:
            return self._stream.read(1) == b""
        except ConnectionResetError:
            return True


def get(path: str, *lines: str) -> bytes:
    """A GET request's bytes."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: gateway.test", *lines, "", ""]).encode()


def post(path: str, body: bytes, *lines: str, content_type: str = "application/json") -> bytes:
    """A POST request's bytes."""
    head = [f"POST {path} HTTP/1.1", "Host: gateway.test", f"Content-Length: {len(body)}"]
    head += [f"Content-Type: {content_type}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def metric(server: ServerProcess, name: str) -> float:
    """The value now of a metric; `name` with its labels as they are written."""
    with Caller(server.metrics_address) as caller:
        text = caller.ask(get("/metrics")).body.decode()
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name + " ")]
    return float(values[0]) if values else 0.0


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def assert_problem(answer: Response, status: int, slug: str) -> None:
    """The answer is an error of that sort in the one shape."""
    document = answer.json
    assert answer.status == status, document
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"urn:tensorgate:problem:{slug}"
    assert document["status"] == status
    assert document["detail"] == document["error"]
    assert document["request_id"] == answer.headers["x-request-id"]
