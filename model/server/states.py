"""What is known of each version of each model, kept after its end."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tensorflow_serving.apis import get_model_status_pb2

from model.server.errors import ServingError

Status = get_model_status_pb2.ModelVersionStatus
START: int = Status.START
LOADING: int = Status.LOADING
AVAILABLE: int = Status.AVAILABLE
UNLOADING: int = Status.UNLOADING
END: int = Status.END


@dataclass(frozen=True)
class VersionState:
    """The state of one version, and why it ended if it failed."""

    state: int
    error: ServingError | None = None


@dataclass(frozen=True)
class Failure:
    """A version that ended instead of becoming available."""

    name: str
    version: int
    error: ServingError | None

    def __str__(self) -> str:
        because = f" due to error: {self.error}" if self.error else ""
        return f"{{{{name: {self.name} version: {self.version}}}{because}}}, "


@dataclass
class _Watch:
    """The newest state of each version since the watch began."""

    states: dict[str, dict[int, VersionState]] = field(default_factory=dict)

    def note(self, name: str, version: int, state: VersionState) -> None:
        self.states.setdefault(name, {})[version] = state

    def settled(self, name: str) -> bool:
        """Whether every version of `name` is available or ended, and there is one."""
        states = self.states.get(name, {}).values()
        return bool(states) and all(state.state in {AVAILABLE, END} for state in states)

    def failures(self, name: str) -> list[Failure]:
        """The versions that ended with an error; where none is available, all that ended."""
        states = self.states.get(name, {})
        served = any(state.state == AVAILABLE for state in states.values())
        return [
            Failure(name, version, state.error)
            for version, state in sorted(states.items(), reverse=True)
            if state.state == END and (state.error is not None or not served)
        ]


class StateBoard:
    """Where loads and unloads are published, looked up and waited for, by any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._known = _Watch()
        self._watches: list[_Watch] = []

    def publish(
        self, name: str, version: int, state: int, error: ServingError | None = None
    ) -> None:
        """Set the state of a version."""
        with self._changed:
            for watch in (self._known, *self._watches):
                watch.note(name, version, VersionState(state, error))
            self._changed.notify_all()

    def versions(self, name: str) -> dict[int, VersionState]:
        """All versions ever seen of a model, the newest first."""
        with self._changed:
            return dict(sorted(self._known.states.get(name, {}).items(), reverse=True))

    @contextmanager
    def watching(self) -> Iterator[_Watch]:
        """Collect states from now on, so that what ended earlier does not count."""
        watch = _Watch()
        with self._changed:
            self._watches.append(watch)
        try:
            yield watch
        finally:
            with self._changed:
                self._watches.remove(watch)

    def wait_for(
        self, names: Iterable[str], watch: _Watch, timeout_seconds: float | None = None
    ) -> list[Failure]:
        """Wait until every version of each model is available or ended; those that failed.

        Raises:
            TimeoutError: the time is over first.
        """
        awaited = sorted(set(names))
        limit = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._changed:
            while not all(watch.settled(name) for name in awaited):
                left = None if limit is None else limit - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"no version of {', '.join(awaited)} was ready in time")
                self._changed.wait(left)
            return [failure for name in awaited for failure in watch.failures(name)]
