"""Batching really batches, and what happened shows in the metrics of a running server."""

import socket
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support import tiny_models
from tests.support.model_server import ModelServer, error_of, starting
from tests.support.tiny_models import predict_request

SECONDS = 30.0
PARAMETERS = """
max_batch_size { value: 4 }
allowed_batch_sizes: 2
allowed_batch_sizes: 4
batch_timeout_micros { value: 3600000000 }
num_batch_threads { value: 1 }
thread_pool_name { value: "mine" }
"""
MONITORING = "prometheus_config { enable: true }"


@pytest.fixture(scope="module")
def rest_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, rest_port: int) -> Iterator[ModelServer]:
    path = tmp_path_factory.mktemp("models")
    (path / "batching").write_text(PARAMETERS)
    (path / "monitoring").write_text(MONITORING)
    tiny_models.write_half_plus(path / "half" / "1")
    with starting(
        model_name="half",
        model_base_path=path / "half",
        rest_api_port=rest_port,
        enable_batching=True,
        batching_parameters_file=path / "batching",
        monitoring_config_file=path / "monitoring",
    ) as server:
        assert server.port
        yield server


def page(port: int) -> str:
    url = f"http://127.0.0.1:{port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url, timeout=SECONDS) as response:
        return str(response.read().decode())


def test_calls_with_and_without_deadline_run_together_as_soon_as_the_batch_is_full(
    server: ModelServer, rest_port: int
) -> None:
    futures = [
        server.prediction.Predict.future(predict_request("half", [number]), timeout=timeout)
        for number, timeout in ((1.0, SECONDS), (2.0, SECONDS), (3.0, None), (4.0, None))
    ]
    answered = [list(future.result(SECONDS).outputs["y"].float_val) for future in futures]
    assert answered == [[2.5], [3.0], [3.5], [4.0]]
    metrics = page(rest_port)
    batching = ":tensorflow:serving:batching_session:"
    assert f"{batching}wrapped_run_count{{}} 1\n" in metrics
    assert f"{batching}processed_batch_size_sum{{}} 4\n" in metrics
    assert f"{batching}input_batch_size_count{{}} 4\n" in metrics
    assert f'{batching}queuing_latency_count{{thread_pool_name="mine"}} 4\n' in metrics


def test_a_call_larger_than_the_largest_batch_is_refused(server: ModelServer) -> None:
    request = predict_request("half", [0.0] * 5)
    code, text = error_of(lambda: server.prediction.Predict(request, timeout=SECONDS))
    assert code == "INVALID_ARGUMENT"
    assert text == "Task size 5 is larger than maximum input batch size 4"


def test_grpc_calls_are_counted_by_code_and_timed(server: ModelServer, rest_port: int) -> None:
    request = predict_request("nobody", [0.0])
    assert error_of(lambda: server.prediction.Predict(request, timeout=SECONDS))
    metrics = page(rest_port)
    serving = ":tensorflow:serving:"
    assert f'{serving}request_count{{model_name="nobody",status="NOT_FOUND"}} 1\n' in metrics
    latency = '_latency_count{model_name="half",API="Predict",'
    for line in (
        f'{serving}request_count{{model_name="half",status="OK"}} 4\n',
        f'{serving}request{latency}entrypoint="GRPC"}} 4\n',
        f'{serving}runtime{latency}runtime="TF1"}} 4\n',
    ):
        assert line in metrics
