"""How long a fetch waits: one place where every wait of it happens."""

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from gateway.deadline import Deadline
from gateway.errors import CallerGone, ImageTooLarge, Overloaded

SMALL_PICTURE = 256 * 1024
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


@dataclass
class _Use:
    """Who uses a key: how many fetches of each request, and when that last changed."""

    fetches: Counter[object] = field(default_factory=Counter)
    changed: float = field(default_factory=time.monotonic)

    def change(self, request: object, by: int) -> None:
        """Count a fetch of the request that begins or has ended."""
        self.fetches[request] += by
        if not self.fetches[request]:
            del self.fetches[request]
        self.changed = time.monotonic()


class Places:
    """So many places for each key; who finds them taken waits while others come and go.

    A request holds its thread while it waits, so it does not wait for places that nobody leaves.

    Args:
        requests: how many may use one key at the same time.
        fetches: how many fetches these may have at it together.
        stuck_after: seconds without a change after which nobody waits for a key.
    """

    def __init__(self, requests: int, fetches: int, stuck_after: float) -> None:
        self._requests = requests
        self._fetches = fetches
        self._stuck_after = stuck_after
        self._uses: dict[Hashable, _Use] = {}
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, key: Hashable, request: object, patience: Patience) -> Iterator[None]:
        """Hold one of the key's places for a fetch of this request.

        Raises:
            Overloaded: none became free in time, or none does at all.
        """
        with self._changed:
            while not self._free(key, request):
                self._wait(key, patience)
            self._uses.setdefault(key, _Use()).change(request, 1)
        try:
            yield
        finally:
            with self._changed:
                self._uses[key].change(request, -1)
                if not self._uses[key].fetches:
                    del self._uses[key]
                self._changed.notify_all()

    def _free(self, key: Hashable, request: object) -> bool:
        use = self._uses.get(key)
        if use is None:
            return True
        admitted = request in use.fetches or len(use.fetches) < self._requests
        return admitted and use.fetches.total() < self._fetches

    def _wait(self, key: Hashable, patience: Patience) -> None:
        try:
            unchanged = time.monotonic() - self._uses[key].changed
            self._changed.wait(patience.sooner(self._stuck_after - unchanged).check())
        except TimeUp as error:
            raise Overloaded(
                "Too many pictures are fetched from one host at once; try again.", retry_after=1
            ) from error


class Memory:
    """So many bytes of pictures that are fetched and not done with, in a worker.

    Who gets none is refused at once: to wait would hold a thread and what it has already.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Take so many bytes.

        Raises:
            Overloaded: so many are not left.
        """
        with self._lock:
            if self._taken + size > self._most:
                raise Overloaded("Too many large pictures are fetched at once; try again.")
            self._taken += size

    def give_back(self, size: int) -> None:
        """Give so many bytes back."""
        with self._lock:
            self._taken -= size


class Allowance:
    """What one fetch may use.

    Args:
        request: whom it is for; its fetches share places.
        most: bytes of its picture.
        memory: of the worker; the first SMALL_PICTURE bytes are not asked for.
    """

    def __init__(self, request: object, most: int, memory: Memory) -> None:
        self.request = request
        self._most = most
        self._memory = memory
        self._taken = 0
        self._over = False
        self._lock = threading.Lock()

    def grow_to(self, size: int) -> None:
        """Let the picture have so many bytes.

        Raises:
            ImageTooLarge: no picture may.
            Overloaded: the worker has no memory for them.
            CallerGone: the request did not wait for the picture.
        """
        if size > self._most:
            raise ImageTooLarge(f"The picture has more than {self._most} bytes.")
        with self._lock:
            if self._over:
                raise CallerGone("The request did not wait for the picture.")
            more = max(0, size - SMALL_PICTURE - self._taken)
            self._memory.take(more)
            self._taken += more

    def let_go(self) -> None:
        """Give the memory back: the picture is not needed any more."""
        with self._lock:
            self._over = True
            self._memory.give_back(self._taken)
            self._taken = 0
