"""Whether anybody still waits for an answer: one for each request."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancellation(threading.Event):
    """Set once nobody waits for the answer any more.

    Who can wait for an event waits for this one. Who is blocked in something else, such as a call
    over gRPC, leaves a function that ends it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._enders: list[Callable[[], object]] = []
        self._left: list[Callable[[], object]] | None = []

    def set(self) -> None:
        """Say that nobody waits, and end what is under way; from any thread, any number of times.

        The functions that were left are called here, so they must not wait.
        """
        with self._lock:
            super().set()
            enders, self._enders = self._enders, []
        for end in enders:
            end()

    @contextmanager
    def ending(self, end: Callable[[], object]) -> Iterator[None]:
        """Call `end` if this is set during the block, or at once if it is set already."""
        with self._lock:
            late = self.is_set()
            if not late:
                self._enders.append(end)
        if late:
            end()
        try:
            yield
        finally:
            with self._lock:
                if end in self._enders:
                    self._enders.remove(end)

    def at_end(self, let_go: Callable[[], object]) -> None:
        """Call `let_go` once the request is done with, or now if it is."""
        with self._lock:
            if self._left is not None:
                self._left.append(let_go)
                return
        let_go()

    def end(self) -> None:
        """Say that the request is done with: what it still held is let go."""
        with self._lock:
            left, self._left = self._left, None
        for let_go in left or ():
            let_go()
