"""How long a fetch waits: one place where every wait of it happens."""

import select
import socket
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gateway.deadline import Deadline
from gateway.errors import CallerGone, Overloaded

CANCEL_INTERVAL = 0.2
"""Seconds between looks at whether the caller has hung up."""


class TimeUp(Exception):
    """The time for a wait ran out."""


@dataclass(frozen=True)
class Patience:
    """The moment at which waiting ends, and the event that ends it sooner."""

    deadline: Deadline
    cancelled: threading.Event | None = None

    def sooner(self, seconds: float) -> "Patience":
        """This patience, or one of that many seconds if those end first."""
        return replace(self, deadline=self.deadline.sooner(seconds))

    def check(self) -> float:
        """Seconds that may now be waited in one go.

        Raises:
            CallerGone: the caller has hung up.
            TimeUp: no time is left.
        """
        if self.cancelled is not None and self.cancelled.is_set():
            raise CallerGone("The caller hung up.")
        remaining = self.deadline.remaining()
        if remaining == 0.0:
            raise TimeUp
        return remaining if self.cancelled is None else min(remaining, CANCEL_INTERVAL)

    def wait_for_socket(self, waited: socket.socket, events: int) -> None:
        """Return once poll() reports one of the events, an error or a hang-up."""
        poller = select.poll()
        poller.register(waited, events)
        while not poller.poll(self.check() * 1000):
            pass

    def pause(self, seconds: float) -> None:
        """Let that many seconds pass, or fewer if waiting ends."""
        try:
            pausing = self.sooner(seconds)
            while True:
                (self.cancelled or threading.Event()).wait(pausing.check())
        except (CallerGone, TimeUp):
            return


class Places:
    """So many places for each key; who finds them taken waits.

    Args:
        limit: how many may hold one key at the same time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[Hashable, int] = {}
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, key: Hashable, patience: Patience) -> Iterator[None]:
        """Hold one of the key's places.

        Raises:
            Overloaded: none became free in time.
        """
        self._take(key, patience)
        try:
            yield
        finally:
            self._give_back(key)

    def _take(self, key: Hashable, patience: Patience) -> None:
        with self._changed:
            while self._taken.get(key, 0) >= self._limit:
                try:
                    self._changed.wait(patience.check())
                except TimeUp as error:
                    raise Overloaded(
                        "Too many pictures are fetched at once; try again.", retry_after=1
                    ) from error
            self._taken[key] = self._taken.get(key, 0) + 1

    def _give_back(self, key: Hashable) -> None:
        with self._changed:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]
            self._changed.notify_all()
