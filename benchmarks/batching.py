"""What batching in the embedded model server brings: `python -m benchmarks.batching`.

Run it with the environment of the models (`.venv/model/bin/python`), on a machine that does nothing
else. For each of two models, the clothing model and one of large dense layers, a server with and a
server without batching are driven in turn, round by round, by the same number of callers, each with
one example a call.
"""

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks.processes import free_port
from tests.support.model_server import ModelServer, starting
from tests.support.tiny_models import PREDICT, signature, v1

WIDTH = 2048
LAYERS = 4
PARAMETERS = """
max_batch_size {{ value: {callers} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 2 }}
"""
MONITORING = "prometheus_config { enable: true }"
WARM_UP_CALLS = 20


@dataclass(frozen=True)
class Model:
    """What is served, and one example of its input."""

    name: str
    base: Path
    request: predict_pb2.PredictRequest


@dataclass
class Side:
    """One server, and what was seen of it."""

    name: str
    server: ModelServer
    rest_port: int
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    def line(self) -> str:
        """Name, calls a second, p50, p99, examples a batch."""
        rate = len(self.seconds) / self.elapsed
        p50 = statistics.median(self.seconds) * 1000
        p99 = statistics.quantiles(self.seconds, n=100)[98] * 1000
        return (
            f"{self.name:<16} {rate:>8.0f}/s {p50:>8.1f} ms {p99:>8.1f} ms {self.batch_size():>8}"
        )

    def batch_size(self) -> str:
        """How many examples ran together on average, from the server's own metrics."""
        url = f"http://127.0.0.1:{self.rest_port}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url) as response:
            page = response.read().decode()
        found = dict(re.findall(r":processed_batch_size_(sum|count)\{\} (\S+)", page))
        return f"{float(found['sum']) / float(found['count']):.1f}" if found else "1"


def clothing_model(folder: Path) -> Model:
    """The clothing model, exported."""
    command = [sys.executable, "-m", "model.clothing.export", "--output", str(folder)]
    subprocess.run(command, check=True)
    picture = np.zeros((1, 299, 299, 3), np.float32)
    return Model("clothing-model", folder / "clothing-model", request_of("picture", picture))


def dense_model(folder: Path) -> Model:
    """Dense layers whose weights do not fit a cache, so that reading them is the work."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, WIDTH], name="x")
        y = x
        for number in range(LAYERS):
            initial = np.random.default_rng(number).normal(size=(WIDTH, WIDTH)) / WIDTH**0.5
            weights = v1.get_variable(
                f"w{number}", initializer=initial.astype(np.float32), use_resource=True
            )
            y = tf.nn.relu(tf.matmul(y, weights))
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder / "dense" / "1"))
        signatures = {"serving_default": signature({"x": x}, {"y": y}, PREDICT)}
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    return Model("dense", folder / "dense", request_of("x", np.zeros((1, WIDTH), np.float32)))


def request_of(alias: str, example: np.ndarray) -> predict_pb2.PredictRequest:
    """A request of one example."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "model"
    request.inputs[alias].CopyFrom(tf.make_tensor_proto(example))
    return request


@contextlib.contextmanager
def side(name: str, model: Model, folder: Path, callers: int) -> Iterator[Side]:
    """A running server with or without batching, warmed up."""
    (folder / "batching").write_text(PARAMETERS.format(callers=callers))
    (folder / "monitoring").write_text(MONITORING)
    flags: dict[str, Any] = {
        "model_name": "model",
        "model_base_path": model.base,
        "rest_api_port": free_port(),
        "monitoring_config_file": folder / "monitoring",
        "grpc_max_threads": 2 * callers,
    }
    if name == "batching":
        flags |= {"enable_batching": True, "batching_parameters_file": folder / "batching"}
    with starting(**flags) as server:
        for _ in range(WARM_UP_CALLS):
            server.prediction.Predict(model.request)
        yield Side(name, server, flags["rest_api_port"])


def drive(driven: Side, request: predict_pb2.PredictRequest, callers: int, seconds: float) -> None:
    """Call from many threads at once; the request is serialized once."""
    call = driven.server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    body = request.SerializeToString()
    start = time.monotonic()
    end = start + seconds

    def keep_calling() -> None:
        while (begun := time.monotonic()) < end:
            call(body)
            driven.seconds.append(time.monotonic() - begun)

    threads = [threading.Thread(target=keep_calling) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    driven.elapsed += time.monotonic() - start


def compare(model: Model, folder: Path, callers: int, seconds: float, rounds: int) -> None:
    """Print one line for each side."""
    print(f"\n{model.name}, {callers} callers{'':<8} rate      p50         p99    batch")
    with (
        side("no batching", model, folder, callers) as without,
        side("batching", model, folder, callers) as batching,
    ):
        for _ in range(rounds):
            drive(without, model.request, callers, seconds)
            drive(batching, model.request, callers, seconds)
        print(without.line(), batching.line(), sep="\n", flush=True)


def main() -> None:
    """Measure both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, nargs="+", default=[8, 32])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in (clothing_model(folder), dense_model(folder)):
            for callers in arguments.callers:
                compare(model, folder, callers, arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()
