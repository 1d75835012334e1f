"""How a model server starts and ends."""

import contextlib
import ctypes
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support import tiny_models
from tests.support.model_server import ROOT, ModelServer, error_of, flags_of, starting
from tests.support.serving_reference import row
from tests.support.tiny_models import predict_log, predict_request, until_request

SECONDS = 30.0
LOADING = re.compile("Starting to read warmup data for model at ")
NO_VERSIONS = re.compile("WARNING (No versions of servable .*)")


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "half"
    tiny_models.write_half_plus(path / "1")
    return path


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def failing_start(**flags: Any) -> tuple[int, str]:
    """Exit status and log of a server that must not start."""
    with starting(**flags) as server:
        status = server.process.wait(SECONDS)
    return status, "".join(server.log)


def test_the_wait_for_a_call_under_way_ends_with_status_0(base_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "go-on"
    flags = {"enable_grpc_healthcheck_service": True}
    with starting(model_name="half", model_base_path=base_path, **flags) as server:
        waiting = server.prediction.Predict.future(
            until_request("half", [7.0], file), timeout=SECONDS
        )
        # On the same connection, so that its first answer shows that the call before it has come.
        watch = server.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=SECONDS)
        assert next(watch) == b"\x08\x01"
        server.terminate()
        assert next(watch) == b"\x08\x02"
        assert list(watch) == []
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as late:
            other = ModelServer(server.process)
            other.__dict__["channel"] = late
            request = predict_request("half", [1.0])
            code, _ = error_of(lambda: other.prediction.Predict(request, timeout=SECONDS))
            assert code == "UNAVAILABLE"
        assert not waiting.done()
        assert server.process.poll() is None
        file.touch()
        assert list(waiting.result(SECONDS).outputs["y"].float_val) == [7.0]
        assert server.process.wait(SECONDS) == 0
    assert server.log[-1].endswith(" INFO Stopped.\n")


def test_a_signal_that_another_thread_takes_is_heard_by_the_main_one(base_path: Path) -> None:
    with starting(model_name="half", model_base_path=base_path) as server:
        assert server.prediction.Predict(predict_request("half", [1.0]), timeout=SECONDS)
        pid = server.process.pid
        threads = {int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()}
        assert ctypes.CDLL(None).tgkill(pid, max(threads - {pid}), signal.SIGTERM) == 0
        assert server.process.wait(SECONDS) == 0


def test_sigterm_can_be_ignored_as_the_official_server_does(base_path: Path) -> None:
    assert row("flags.no-sigterm-handler")
    flags = {"ignore_sigterm": True}
    with starting(model_name="half", model_base_path=base_path, **flags) as server:
        assert server.prediction.Predict(predict_request("half", [1.0]), timeout=SECONDS)
        server.terminate()
        assert server.prediction.Predict(predict_request("half", [1.0]), timeout=SECONDS)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(SECONDS) == 0


def test_a_first_load_that_fails_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    tiny_models.write_broken(tmp_path / "1")
    status, log = failing_start(model_name="half", model_base_path=tmp_path)
    assert status == 1
    assert (
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: "
        "{{{name: half version: 1} due to error: DATA_LOSS: "
    ) in log
    assert "Traceback" not in log


def test_no_port_is_open_before_the_first_load(base_path: Path, tmp_path: Path) -> None:
    assert row("warmup.before-available")
    file, port = tmp_path / "go-on", free_port()
    path = tiny_models.write_half_plus(tmp_path / "1")
    record = predict_log([1.0])
    record.predict_log.request.CopyFrom(until_request("half", [1.0], file))
    tiny_models.write_warm_up(path, [record.SerializeToString()])
    with starting(model_name="half", model_base_path=tmp_path, port=port) as server:
        server.wait_for_log(LOADING)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        file.touch()
        assert server.port == port
        assert server.states("half") == {1: "AVAILABLE"}


def test_sigterm_while_nothing_is_served_yet_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with starting(model_name="half", model_base_path=tmp_path / "empty") as server:
        found = server.wait_for_log(NO_VERSIONS)
        row("config.no-versions").check_text(found.group(1), X="half", P=tmp_path / "empty")
        server.terminate()
        assert server.process.wait(SECONDS) == 128 + signal.SIGTERM
    assert server.log[-1] == "Stopped before the ports were open.\n"


def test_a_taken_port_ends_the_start_with_one_sentence(base_path: Path) -> None:
    with taken_port() as port:
        status, log = failing_start(model_base_path=base_path, port=port)
        assert status == 1
        [sentence] = [line for line in log.splitlines() if " INFO " not in line]
        assert f"127.0.0.1:{port} is taken: " in sentence


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        ({"colour": "blue"}, 2, "unknown argument: --colour=blue"),
        ({"prefer_tflite_model": True}, 2, "--prefer_tflite_model=true cannot be had here: "),
        ({"model_config_file": "/gone"}, 1, "NOT_FOUND: /gone; No such file or directory"),
    ],
)
def test_wrong_flags_end_the_start_with_one_sentence(
    flags: dict[str, Any], status: int, said: str
) -> None:
    ended, log = failing_start(**flags)
    assert ended == status
    assert said in log


def test_the_version_is_printed() -> None:
    assert row("flags.version")
    command = [sys.executable, "-m", "model.server", *flags_of({"version": True})]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("TensorFlow ModelServer: ")
    assert "\nTensorFlow Library: " in printed


def test_grpc_can_be_had_over_tls_only(base_path: Path, tmp_path: Path) -> None:
    assert row("config.ssl-config")
    key, certificate = self_signed(tmp_path)
    config = tmp_path / "ssl.config"
    config.write_text(f"server_key: {quoted(key)}\nserver_cert: {quoted(certificate)}\n")
    with starting(model_name="half", model_base_path=base_path, ssl_config_file=config) as server:
        credentials = grpc.ssl_channel_credentials(certificate.encode())
        address = f"localhost:{server.port}"
        with grpc.secure_channel(address, credentials) as channel:
            secure = ModelServer(server.process)
            secure.__dict__["channel"] = channel
            assert secure.states("half") == {1: "AVAILABLE"}
        request = predict_request("half", [1.0])
        code, _ = error_of(lambda: server.prediction.Predict(request, timeout=SECONDS))
        assert code == "UNAVAILABLE"


def quoted(pem: str) -> str:
    return '"' + pem.replace("\n", "\\n") + '"'


def self_signed(directory: Path) -> tuple[str, str]:
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
    return key.read_text(), certificate.read_text()
