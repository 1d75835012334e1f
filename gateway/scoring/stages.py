"""Where a request's time went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("queue", "fetch", "decode", "predict")


class Stages:
    """Seconds by stage, in the order a request passes them. One request's, used by one thread."""

    def __init__(self, queue_seconds: float = 0.0) -> None:
        self.seconds = dict.fromkeys(NAMES, 0.0)
        self.seconds["queue"] = queue_seconds

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to the stage, whether or not it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def server_timing(self) -> str:
        """The value of the header Server-Timing, in milliseconds."""
        return ", ".join(
            f"{name};dur={seconds * 1000:.3f}" for name, seconds in self.seconds.items()
        )
