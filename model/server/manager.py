"""Keeps the wanted versions of each model loaded, the new before the old goes.

A version is NEW, then LOADING, then READY or FAILED; when it is wanted no more, it is UNLOADING
until the last request that uses it has ended.
"""

import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

import grpc

from model.server.errors import ServingError, not_found
from model.server.servable import Servable
from model.server.states import AVAILABLE, END, LOADING, START, UNLOADING, StateBoard

log = logging.getLogger(__name__)

PERIOD_SECONDS = 0.1
"""How often the manager looks for something to do."""


class Phase(Enum):
    """Where a version stands."""

    NEW = auto()
    LOADING = auto()
    READY = auto()
    FAILED = auto()
    UNLOADING = auto()


@dataclass(eq=False)
class Managed:
    """A version that is or was wanted. Guarded by the manager's lock."""

    name: str
    version: int
    path: str
    phase: Phase = Phase.NEW
    wanted: bool = True
    servable: Servable | None = None
    in_flight: int = 0

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


@dataclass(frozen=True)
class LoadPolicy:
    """How loads are retried and how many run at once; 0 threads load one after another."""

    max_retries: int = 5
    retry_seconds: float = 60.0
    load_threads: int = 0
    unload_threads: int = 0


Load = Callable[[str, int, str], Servable]
"""Loads the version of a model at a path, or raises `ServingError`."""


def next_action(versions: list[Managed]) -> tuple[Phase, Managed] | None:
    """What to do next for one model so that it stays available: LOADING or UNLOADING of whom.

    A version that is wanted no more goes once a wanted one is ready, or when none is wanted, or
    when more than one such is ready. Else the newest version is loaded.
    """
    wanted = [version for version in versions if version.wanted]
    serving = [version for version in wanted if version.phase is Phase.READY]
    outdated = [
        version for version in versions if not version.wanted and version.phase is Phase.READY
    ]
    if outdated and (not wanted or serving or len(outdated) > 1):
        return Phase.UNLOADING, min(outdated, key=lambda managed: managed.version)
    new = [version for version in wanted if version.phase is Phase.NEW]
    if new:
        return Phase.LOADING, max(new, key=lambda managed: managed.version)
    return None


class ModelManager:
    """Loads, unloads and hands out versions."""

    def __init__(self, load: Load, board: StateBoard, policy: LoadPolicy) -> None:
        self._load = load
        self._board = board
        self._policy = policy
        self._lock = threading.Condition()
        self._wanted: dict[str, Mapping[int, str]] = {}
        self._managed: dict[str, dict[int, Managed]] = {}
        self._loaders = _pool("load", policy.load_threads)
        self._unloaders = _pool("unload", policy.unload_threads)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="manager", daemon=True)

    def start(self) -> None:
        """Begin to load and unload."""
        self._thread.start()

    def stop(self) -> None:
        """Take up nothing more; a load under way ends by itself."""
        with self._lock:
            self._stopping.set()
            self._lock.notify_all()
        self._wake.set()
        self._thread.join()
        self._loaders.shutdown(wait=False, cancel_futures=True)
        self._unloaders.shutdown(wait=False, cancel_futures=True)

    def want(self, name: str, versions: Mapping[int, str]) -> None:
        """Set which versions of a model are wanted, with their paths; none unloads it."""
        with self._lock:
            self._wanted[name] = dict(versions)
            self._lock.notify_all()
        self._wake.set()

    def models(self) -> set[str]:
        """The models of which some version is wanted or still there."""
        with self._lock:
            wanted = {name for name, versions in self._wanted.items() if versions}
            return wanted | {name for name, versions in self._managed.items() if versions}

    @contextmanager
    def load_threads(self, count: int) -> Iterator[None]:
        """Load with so many threads while this lasts."""
        with self._lock:
            usual, self._loaders = self._loaders, _pool("initial-load", count)
        try:
            yield
        finally:
            with self._lock:
                self._loaders, initial = usual, self._loaders
            initial.shutdown(wait=False)

    @contextmanager
    def servable(self, name: str, version: int | None) -> Iterator[Servable]:
        """A ready version, or the newest, which stays loaded while it is used.

        Raises:
            ServingError: NOT_FOUND, none is ready.
        """
        managed, servable = self._take(name, version)
        try:
            yield servable
        finally:
            with self._lock:
                managed.in_flight -= 1
                if not managed.in_flight:
                    self._lock.notify_all()

    def _take(self, name: str, version: int | None) -> tuple[Managed, Servable]:
        with self._lock:
            ready = {
                managed.version: managed
                for managed in self._managed.get(name, {}).values()
                if managed.phase is Phase.READY
            }
            chosen = ready.get(max(ready, default=0) if version is None else version)
            if chosen is None or chosen.servable is None:
                asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                not_found(f"Servable not found for request: {asked}")
            chosen.in_flight += 1
            return chosen, chosen.servable

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(PERIOD_SECONDS)
            self._wake.clear()
            with self._lock:
                for name in list(self._wanted):
                    self._follow_wishes(name)
                    self._act(name)

    def _follow_wishes(self, name: str) -> None:
        wanted = self._wanted[name]
        managed = self._managed.setdefault(name, {})
        for version, path in wanted.items():
            if version not in managed:
                managed[version] = Managed(name, version, path)
                self._board.publish(name, version, START)
        for entry in list(managed.values()):
            entry.wanted = entry.version in wanted
            if not entry.wanted and entry.phase in {Phase.NEW, Phase.FAILED}:
                del managed[entry.version]
                if entry.phase is Phase.NEW:
                    self._board.publish(name, entry.version, END)
        if not wanted and not managed:
            del self._wanted[name], self._managed[name]

    def _act(self, name: str) -> None:
        while action := next_action(list(self._managed.get(name, {}).values())):
            phase, managed = action
            managed.phase = phase
            if phase is Phase.LOADING:
                self._loaders.submit(self._load_version, managed)
            else:
                self._unloaders.submit(self._unload_version, managed)

    def _load_version(self, managed: Managed) -> None:
        self._board.publish(managed.name, managed.version, LOADING)
        try:
            servable = self._try_to_load(managed)
        except ServingError as error:
            self._finish_load(managed, None)
            self._board.publish(managed.name, managed.version, END, error)
            return
        if self._finish_load(managed, servable):
            log.info("Successfully loaded servable version %s", managed)
            self._board.publish(managed.name, managed.version, AVAILABLE)
            self._wake.set()
            return
        servable.session.close()
        cancelled = ServingError(grpc.StatusCode.CANCELLED, "Loading of servable cancelled")
        self._board.publish(managed.name, managed.version, END, cancelled)

    def _finish_load(self, managed: Managed, servable: Servable | None) -> bool:
        """Set what a load came to; whether the version is served."""
        with self._lock:
            served = servable is not None and self._is_wanted(managed)
            managed.servable = servable if served else None
            managed.phase = Phase.READY if served else Phase.FAILED
            return served

    def _is_wanted(self, managed: Managed) -> bool:
        return managed.version in self._wanted.get(managed.name, {})

    def _try_to_load(self, managed: Managed) -> Servable:
        tries = 0
        while True:
            try:
                return self._load_once(managed)
            except ServingError as error:
                log.error("Loading servable: %s failed: %s", managed, error)
                tries += 1
                if tries > self._policy.max_retries or not self._wait_to_retry(managed):
                    raise
                log.info("Retrying of Loading servable: %s retry: %d", managed, tries)

    def _load_once(self, managed: Managed) -> Servable:
        try:
            return self._load(managed.name, managed.version, managed.path)
        except ServingError:
            raise
        except Exception as error:
            log.exception("Loading servable: %s failed", managed)
            raise ServingError(grpc.StatusCode.INTERNAL, f"The load failed: {error}") from error

    def _wait_to_retry(self, managed: Managed) -> bool:
        """Wait for the interval between tries; whether the version is still wanted then."""
        with self._lock:
            self._lock.wait_for(
                lambda: self._stopping.is_set() or not self._is_wanted(managed),
                max(0.0, self._policy.retry_seconds),
            )
            return self._is_wanted(managed) and not self._stopping.is_set()

    def _unload_version(self, managed: Managed) -> None:
        self._board.publish(managed.name, managed.version, UNLOADING)
        with self._lock:
            self._lock.wait_for(lambda: not managed.in_flight)
            servable, managed.servable = managed.servable, None
        if servable is not None:
            servable.session.close()
            servable = None
            # A graph's parts refer to each other, so only a collection gives its memory back.
            gc.collect()
        log.info("Done unloading servable version %s", managed)
        with self._lock:
            self._managed[managed.name].pop(managed.version)
        self._board.publish(managed.name, managed.version, END)
        self._wake.set()


def _pool(name: str, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, threads), thread_name_prefix=name)
