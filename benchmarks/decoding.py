"""Decoding in child processes against decoding in the worker's threads.

`.venv/test/bin/python -m benchmarks.decoding`: both gateways run at once in front of the same stub
of a model server and are driven in turn, round by round. Then each gets a burst of pictures of 12
megapixels from 16 callers, and its memory is read before, right after, and once it is idle.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.compare import (
    PICTURES,
    Side,
    draw,
    drive,
    measure,
    model_servers,
    picture_server,
    wait_until_ready,
)
from benchmarks.processes import free_port, memory_mib, python, running

MODULES = {"in children": "gateway", "in threads": "benchmarks.in_thread_gateway"}
CALLERS = (1, 8)
BURST_CALLERS = 16
IDLE_SECONDS = 3.0
"""Time that a child has to notice that it has nothing to do."""


@contextlib.contextmanager
def gateways(model_port: int, pictures_port: int) -> Iterator[list[Side]]:
    """Both gateways, ready."""
    with contextlib.ExitStack() as stack:
        sides = []
        for name, module in MODULES.items():
            port = free_port()
            environment = {
                "TF_SERVING_HOST": f"127.0.0.1:{model_port}",
                "BIND": f"127.0.0.1:{port}",
                "METRICS_BIND": f"127.0.0.1:{free_port()}",
                "ALLOWED_NETWORKS": f"127.0.0.1/32:{pictures_port}",
            }
            process = stack.enter_context(
                running([python("gateway"), "-m", module], port, environment)
            )
            sides.append(Side(name, port, process.pid))
        for side in sides:
            wait_until_ready(side)
        yield sides


def report(picture: str, callers: int, sides: list[Side]) -> None:
    """One line: each side's p50 and p99, and what children cost of the p50."""
    children, threads = (side.row() for side in sides)
    print(
        f"| {picture} | {callers} | {children[0]:.2f} | {threads[0]:.2f}"
        f" | {(children[0] / threads[0] - 1) * 100:+.0f} %"
        f" | {children[1]:.1f} | {threads[1]:.1f} | {children[3]:.1f} | {threads[3]:.1f} |",
        flush=True,
    )


def burst(side: Side, url: str, pictures: int) -> None:
    """One line: memory before, right after and some time after a burst of large pictures."""
    before = memory_mib(side.pid)
    drive(side, url, BURST_CALLERS, pictures)
    after = memory_mib(side.pid)
    time.sleep(IDLE_SECONDS)
    print(f"| {side.name} | {before:.0f} | {after:.0f} | {memory_mib(side.pid):.0f} |", flush=True)


def main() -> None:
    """Measure and print two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=60, help="a side and round")
    parser.add_argument("--burst", type=int, default=64, help="pictures of 12 MP")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        with (
            picture_server(Path(folder)) as pictures_port,
            model_servers("stub") as (model_port, _),
            gateways(model_port, pictures_port) as sides,
        ):
            urls = {
                picture: f"http://127.0.0.1:{pictures_port}/{picture.replace(' ', '')}"
                for picture in PICTURES
            }
            print("| picture | callers | p50 ms, children | p50 ms, threads | cost |", end="")
            print(" p99, children | p99, threads | CPU ms/req, children | threads |")
            print("|---|---|---|---|---|---|---|---|---|")
            for picture in ("400x533", "1 MP"):
                for callers in CALLERS:
                    measure(sides, urls[picture], callers, options.rounds, options.requests)
                    report(picture, callers, sides)
            print("\n| PSS MiB | before | right after | idle |\n|---|---|---|---|")
            for side in sides:
                burst(side, urls["12 MP"], options.burst)


if __name__ == "__main__":
    main()
