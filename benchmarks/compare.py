"""The gateway against the book's service: `make benchmark`, a few minutes.

Both run at once and are driven in turn, round by round, by the same callers, with the same
pictures, against the same model server: first a stub with a fixed answer, then the clothing model
in the embedded server. The book's service runs as it ships, with one worker process, and with as
many as ours.
"""

import argparse
import contextlib
import http.client
import io
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.processes import cpu_seconds, free_port, memory_mib, python, running
from gateway.cpu import available_cpus

PICTURES = {"400x533": (400, 533), "1 MP": (1000, 1000), "12 MP": (4000, 3000)}
CALLERS = (1, 8)
WARM_UP_REQUESTS = 8


@dataclass
class Side:
    """One service under measurement, and what was seen of it in one setting."""

    name: str
    port: int
    pid: int
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    cpu: float = 0.0

    def row(self) -> tuple[float, float, float, float]:
        """p50 and p99 in ms, requests a second, CPU ms a request."""
        ordered = sorted(self.seconds)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return (
            statistics.median(ordered) * 1000,
            p99 * 1000,
            len(ordered) / self.elapsed,
            self.cpu / len(ordered) * 1000,
        )


def draw(folder: Path) -> None:
    """JPEGs with the noise of photographs, which is what makes decoding cost what it does."""
    generator = np.random.default_rng(1)
    for name, (width, height) in PICTURES.items():
        coarse = generator.integers(0, 256, (height // 40 + 1, width // 40 + 1, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noise = generator.normal(0, 6, (height, width, 3))
        pixels = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
        (folder / name.replace(" ", "")).write_bytes(buffer.getvalue())


def drive(side: Side, url: str, callers: int, requests: int) -> None:
    """Have the callers share the requests, each on one connection while the service keeps it."""
    body = json.dumps({"url": url})
    left = iter(range(requests))
    seconds: list[float] = []

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=60)
        for _ in left:
            begun = time.perf_counter()
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {answer[:500]!r}")
            seconds.append(time.perf_counter() - begun)
        connection.close()

    cpu, begun = cpu_seconds(side.pid), time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call) for _ in range(callers)]
    for finished in calls:
        if finished.exception() is not None:
            raise SystemExit(f"{side.name} failed: {finished.exception()!r}")
    side.elapsed += time.perf_counter() - begun
    side.cpu += cpu_seconds(side.pid) - cpu
    side.seconds += seconds


@contextlib.contextmanager
def picture_server(folder: Path) -> Iterator[int]:
    """The picture server's port."""
    command = [python("test"), "-m", "benchmarks.picture_server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield port
        finally:
            process.terminate()


@contextlib.contextmanager
def services(model_port: int, pictures_port: int, names: tuple[str, str]) -> Iterator[list[Side]]:
    """Ours, the book's as shipped, and the book's with as many workers as ours."""
    model = f"127.0.0.1:{model_port}"
    workers = available_cpus()
    with contextlib.ExitStack() as stack:
        ours = free_port()
        environment = {
            "TF_SERVING_HOST": model,
            "BIND": f"127.0.0.1:{ours}",
            "METRICS_BIND": f"127.0.0.1:{free_port()}",
            "ALLOWED_NETWORKS": f"127.0.0.1/32:{pictures_port}",
        }
        process = stack.enter_context(
            running([python("gateway"), "-m", "gateway"], ours, environment)
        )
        sides = [Side(f"gateway, {workers} workers", ours, process.pid)]
        for count in sorted({1, workers}):
            port = free_port()
            command = [python("test"), "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
            command += [
                "--workers",
                str(count),
                "--no-control-socket",
                "benchmarks.book_service:app",
            ]
            environment = {
                "TF_SERVING_HOST": model,
                "BOOK_INPUT": names[0],
                "BOOK_OUTPUT": names[1],
            }
            process = stack.enter_context(running(command, port, environment))
            plural = "s" if count > 1 else ""
            sides.append(Side(f"book, {count} worker{plural}", port, process.pid))
        wait_until_ready(sides[0])
        yield sides


def wait_until_ready(side: Side) -> None:
    """Wait until the gateway has seen its model."""
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=10)
        connection.request("GET", "/readyz")
        if connection.getresponse().status == 200:
            return
        connection.close()
        time.sleep(0.1)
    raise SystemExit("the gateway did not become ready")


def measure(sides: list[Side], url: str, callers: int, rounds: int, requests: int) -> None:
    """Drive each side in turn, round by round, and print what each did."""
    for side in sides:
        side.seconds, side.elapsed, side.cpu = [], 0.0, 0.0
        drive(side, url, callers, WARM_UP_REQUESTS)
        side.seconds, side.elapsed, side.cpu = [], 0.0, 0.0
    for _ in range(rounds):
        for side in sides:
            drive(side, url, callers, requests)


def report(model: str, picture: str, callers: int, sides: list[Side]) -> None:
    """One line a side, with ours as a multiple of it in requests a second."""
    ours = sides[0].row()[2]
    for side in sides:
        p50, p99, rate, cpu = side.row()
        print(
            f"| {model} | {picture} | {callers} | {side.name} | {p50:.1f} | {p99:.1f} | {rate:.0f}"
            f" | {ours / rate:.2f} | {cpu:.1f} | {memory_mib(side.pid):.0f} |",
            flush=True,
        )


@contextlib.contextmanager
def model_servers(which: str) -> Iterator[tuple[int, tuple[str, str]]]:
    """A model server's gRPC port, and the names of its input and output."""
    port = free_port()
    if which == "stub":
        command = [python("test"), "-m", "tests.support.stub_serving", "--port", str(port)]
        with running(command, port):
            yield port, ("input_8", "dense_7")
        return
    models = Path("build/models")
    subprocess.run(
        [python("model"), "-m", "model.clothing.export", "--output", str(models)], check=True
    )
    command = [python("model"), "-m", "model.server", "--host=127.0.0.1", f"--port={port}"]
    command += ["--model_name=clothing-model"]
    command += [f"--model_base_path={(models / 'clothing-model').resolve()}"]
    with running(command, port):
        yield port, signature_names(port)


def signature_names(port: int) -> tuple[str, str]:
    """The names that the clothing model's signature gives its input and output."""
    from gateway.deadline import Deadline  # noqa: PLC0415  only this side needs a client
    from gateway.model_client.client import ModelClient, ModelSpec  # noqa: PLC0415

    client = ModelClient(("127.0.0.1", port))
    signature = client.metadata(ModelSpec("clothing-model"), Deadline.after(20)).signatures
    client.close()
    serving = signature["serving_default"]
    return next(iter(serving.inputs)), next(iter(serving.outputs))


def main() -> None:
    """Measure every setting and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=120, help="a side and round, at 1 MP")
    options = parser.parse_args()
    print("| model server | picture | callers | service | p50 ms | p99 ms | req/s |", end="")
    print(" ours / it | CPU ms/req | PSS MiB |\n|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        with picture_server(Path(folder)) as pictures_port:
            for which in ("stub", "clothing model"):
                with (
                    model_servers(which) as (model_port, names),
                    services(model_port, pictures_port, names) as sides,
                ):
                    for picture in PICTURES:
                        url = f"http://127.0.0.1:{pictures_port}/{picture.replace(' ', '')}"
                        requests = options.requests // (4 if picture == "12 MP" else 1)
                        for callers in CALLERS:
                            measure(sides, url, callers, options.rounds, requests)
                            report(which, picture, callers, sides)


if __name__ == "__main__":
    main()
