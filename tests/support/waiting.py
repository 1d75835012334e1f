"""Waiting for something to become true, without sleeping longer than needed."""

import threading
import time
from collections.abc import Callable


def wait_until(holds: Callable[[], bool], seconds: float = 20.0, what: str = "it") -> None:
    """Look again and again until it holds.

    Raises:
        AssertionError: it did not hold in time.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} did not come true in {seconds} s"
        threading.Event().wait(0.01)
