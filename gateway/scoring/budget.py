"""Memory for decoding, shared by the container's workers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.deadline import Deadline
from gateway.errors import ImageTooLarge, Overloaded


class DecodeBudget:
    """Bytes that all workers together may use for decoding at once. Made before they fork."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, bytes_needed: int, deadline: Deadline) -> Iterator[None]:
        """Hold that many bytes of the budget for the block; wait for them inside the deadline.

        Raises:
            ImageTooLarge: it is more than the whole budget.
            Overloaded: the deadline came first.
        """
        if bytes_needed > self.total_bytes:
            raise ImageTooLarge("The picture needs more memory than the gateway has for decoding.")
        with self._changed:
            fits = self._changed.wait_for(
                lambda: self._used + bytes_needed <= self.total_bytes, deadline.remaining()
            )
            if not fits:
                raise Overloaded("No memory for decoding came free in time.", retry_after=1)
            self._used += bytes_needed
        try:
            yield
        finally:
            with self._changed:
                self._used -= bytes_needed
                self._changed.notify_all()

    def in_use(self) -> int:
        """Bytes that are held now, by all workers."""
        return self._used
