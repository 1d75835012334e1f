"""A model server process of this project, and calls to it."""

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

ROOT = Path(__file__).parents[2]
LISTENING = re.compile(r"Running gRPC ModelServer at 127\.0\.0\.1:(\d+) ")
SECONDS = 60.0


@dataclass
class ModelServer:
    """A running server; its log is read all the while."""

    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    @cached_property
    def port(self) -> int:
        """The gRPC port, once every model is available."""
        return int(self.wait_for_log(LISTENING).group(1))

    @cached_property
    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(
            f"127.0.0.1:{self.port}", options=[("grpc.max_receive_message_length", -1)]
        )

    @property
    def prediction(self) -> Any:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def models(self) -> Any:
        return model_service_pb2_grpc.ModelServiceStub(self.channel)

    def states(self, model: str) -> dict[int, str]:
        """The state of each known version by name, such as AVAILABLE."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        status = get_model_status_pb2.ModelVersionStatus
        answered = self.models.GetModelStatus(request, timeout=SECONDS).model_version_status
        return {entry.version: status.State.Name(entry.state) for entry in answered}

    def wait_for_states(self, model: str, states: dict[int, str]) -> None:
        wait_until(lambda: self.states(model) == states, lambda: str(self.states(model)))

    def wait_for_log(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(filter(None, map(pattern.search, tuple(self.log))))
            return bool(found) or self.process.poll() is not None

        wait_until(look, lambda: f"no {pattern.pattern} in {self.log}")
        assert found, f"the server ended: {''.join(self.log)}"
        return found[0]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def read_log(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)


def wait_until(condition: Callable[[], bool], say: Callable[[], str]) -> None:
    """Poll until the condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, say()
        threading.Event().wait(0.02)


def flags_of(flags: dict[str, Any]) -> list[str]:
    """The command line of these flags."""
    written = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in flags.items()
    }
    return [f"--{name}={value}" for name, value in written.items()]


@contextlib.contextmanager
def starting(**flags: Any) -> Iterator[ModelServer]:
    """A server with these flags on 127.0.0.1 and a free port, killed at the end."""
    flags = {"port": 0, "host": "127.0.0.1", "max_num_load_retries": 0, **flags}
    process = subprocess.Popen(
        [sys.executable, "-m", "model.server", *flags_of(flags)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = ModelServer(process)
    reader = threading.Thread(target=server.read_log)
    reader.start()
    try:
        yield server
    finally:
        if "channel" in server.__dict__:
            server.channel.close()
        process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def error_of(call: Callable[[], Any]) -> tuple[str, str]:
    """The gRPC code and text that a call fails with."""
    try:
        answered = call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"no error but {answered}")
