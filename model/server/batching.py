"""Joins the runs of several callers into one, as TensorFlow Serving's batching session does.

A `BatchScheduler` has the threads, shared by all models. Each set of fed and fetched tensors of a
`BatchingSession` has a queue there: calls gather in its open batch until that is full or its time
is over, then a thread runs the batch and hands each caller its rows.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import grpc
import numpy as np

from model.server import merging
from model.server.batching_parameters import BatchingOptions
from model.server.errors import ServingError, invalid
from model.server.recorder import Recorder
from model.server.session import Session

NO_DEADLINE = float("inf")

LONGEST_WAIT_SECONDS = 3600.0
"""Python cannot wait for as long as a BatchingParameters can say."""


@dataclass(eq=False)
class Call:
    """One caller's run; `outputs` fills by part until the event is set.

    `taken` is set when a thread has begun with one of its batches.
    """

    feeds: Mapping[str, np.ndarray]
    size: int
    deadline: float
    enqueued: float
    parts: int = 1
    outputs: dict[int, list[np.ndarray]] = field(default_factory=dict)
    error: ServingError | None = None
    taken: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def finish(self, part: int, outputs: list[np.ndarray] | ServingError) -> None:
        """Take what a part came to; the last one wakes the caller."""
        with self.lock:
            if isinstance(outputs, ServingError):
                self.error = self.error or outputs
                self.outputs[part] = []
            else:
                self.outputs[part] = outputs
            if len(self.outputs) == self.parts:
                self.done.set()


@dataclass(frozen=True)
class Part:
    """Some rows of a call: all of them, unless a large one was split."""

    call: Call
    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many rows these are."""
        return self.stop - self.start

    def feeds(self) -> Mapping[str, np.ndarray]:
        """The rows of each input."""
        if self.size == self.call.size:
            return self.call.feeds
        return {name: value[self.start : self.stop] for name, value in self.call.feeds.items()}


@dataclass
class Batch:
    """Parts that run together, in their order of arrival."""

    parts: list[Part] = field(default_factory=list)
    size: int = 0
    opened: float = 0.0

    def add(self, part: Part) -> None:
        """Append a part; the first one starts the batch's clock."""
        if not self.parts:
            self.opened = time.monotonic()
        self.parts.append(part)
        self.size += part.size


class BatchQueue:
    """Batches of one kind of run: closed ones, and at the end the open one."""

    def __init__(self, options: BatchingOptions, process: Callable[[Batch], None]) -> None:
        self.options = options
        self.process = process
        self._batches: deque[Batch] = deque([Batch()])

    def add(self, call: Call) -> None:
        """Put a call into the open batch, or into several where large ones are split.

        Raises:
            ServingError: INVALID_ARGUMENT, it is too large; UNAVAILABLE, the queue is full.
        """
        if call.size > self.options.max_batch_size:
            invalid(
                f"Task size {call.size} is larger than maximum input batch size "
                f"{self.options.max_batch_size}"
            )
        self._check_capacity(call.size)
        parts = self._split(call)
        call.parts = len(parts)
        for part in parts:
            if self._batches[-1].size + part.size > self.options.execution_size:
                self._batches.append(Batch())
            self._batches[-1].add(part)

    def ready_at(self) -> float | None:
        """When the first batch may run, on the monotonic clock; None, there is none."""
        first = self._batches[0]
        if not first.parts:
            return None
        if len(self._batches) > 1 or first.size >= self.options.execution_size:
            return first.opened
        return first.opened + self.options.timeout_seconds

    def take(self) -> Batch:
        """Remove the first batch; if that was the open one, a fresh one follows."""
        if len(self._batches) == 1:
            self._batches.append(Batch())
        return self._batches.popleft()

    def _check_capacity(self, size: int) -> None:
        options, enqueued = self.options, len(self._batches)
        opened = self._batches[-1].size
        full = "The batch scheduling queue to which this task was submitted is full; "
        if not options.split_large:
            if opened + size > options.max_batch_size and enqueued >= options.max_enqueued:
                _unavailable(
                    f"{full}currently {enqueued} batches enqueued and max_enqueued_batches is "
                    f"{options.max_enqueued}"
                )
            return
        room = (options.max_enqueued - enqueued) * options.execution_size
        room += options.execution_size - opened
        if size > room:
            _unavailable(
                f"{full}task size is {size} but scheduling capacity is only {room} "
                f"(num_enqueued_batches={enqueued}, max_enqueued_batches={options.max_enqueued}, "
                f"open_batch_size={opened}, max_execution_batch_size={options.execution_size})"
            )

    def _split(self, call: Call) -> list[Part]:
        limit = self.options.execution_size
        room = limit - self._batches[-1].size
        if call.size <= room or not self.options.split_large:
            return [Part(call, 0, 0, call.size)]
        edges = [0, *range(room or limit, call.size, limit), call.size]
        return [
            Part(call, index, start, stop) for index, (start, stop) in enumerate(pairwise(edges))
        ]


class BatchScheduler:
    """A fixed number of `threads` that run the batches of all queues in turn."""

    def __init__(self, name: str, threads: int) -> None:
        if threads < 1:
            invalid(f"num_batch_threads must be positive; was {threads}")
        self.name = name
        self.threads = threads
        self._changed = threading.Condition()
        self._queues: deque[BatchQueue] = deque()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after the batches they are at."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def add_queue(self, queue: BatchQueue) -> None:
        """Take turns with this queue too."""
        with self._changed:
            self._queues.append(queue)

    def remove_queue(self, queue: BatchQueue) -> None:
        """Forget an empty queue."""
        with self._changed:
            self._queues.remove(queue)

    def schedule(self, queue: BatchQueue, call: Call) -> None:
        """Enqueue a call; raises as `BatchQueue.add` does."""
        with self._changed:
            queue.add(call)
            self._changed.notify()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            queue, batch = taken
            queue.process(batch)

    def _next(self) -> tuple[BatchQueue, Batch] | None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                queue, ready = self._soonest(now)
                if queue is not None and ready <= now:
                    return queue, queue.take()
                self._changed.wait(min(ready - now, LONGEST_WAIT_SECONDS))
            return None

    def _soonest(self, now: float) -> tuple[BatchQueue | None, float]:
        """The next queue in turn that is ready, or the one that is ready first."""
        soonest: tuple[BatchQueue | None, float] = (None, NO_DEADLINE)
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            self._queues.rotate(-1)
            ready = queue.ready_at()
            if ready is not None and ready < soonest[1]:
                soonest = (queue, ready)
            if soonest[1] <= now:
                break
        return soonest


class BatchingSession:
    """A session whose runs wait for others that feed and fetch the same tensors."""

    def __init__(
        self,
        session: Session,
        scheduler: BatchScheduler,
        options: BatchingOptions,
        recorder: Recorder,
    ) -> None:
        self._session = session
        self._scheduler = scheduler
        self._options = options
        self._recorder = recorder
        self._lock = threading.Lock()
        self._queues: dict[tuple[frozenset[str], frozenset[str]], BatchQueue] = {}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout_seconds: float | None = None,
    ) -> list[Any]:
        """Run in a batch and give back this caller's rows."""
        size = merging.batch_size(feeds)
        for _ in feeds:
            self._recorder.observe_batch_input(size)
        now = time.monotonic()
        deadline = NO_DEADLINE if timeout_seconds is None else now + timeout_seconds
        call = Call(feeds, size, deadline, now)
        self._scheduler.schedule(self._queue(feeds, fetches), call)
        self._wait(call)
        if call.error is not None:
            raise call.error
        names = sorted(set(fetches))
        outputs = merging.joined([call.outputs[part] for part in range(call.parts)])
        return [outputs[names.index(name)] for name in fetches]

    def close(self) -> None:
        """Leave the scheduler and close the session."""
        with self._lock:
            queues, self._queues = list(self._queues.values()), {}
        for queue in queues:
            self._scheduler.remove_queue(queue)
        self._session.close()

    def _wait(self, call: Call) -> None:
        """Wait for a call's end; one that is still in the queue when its time is over gives up.

        Its rows are run with their batch all the same, for nobody.

        Raises:
            ServingError: RESOURCE_EXHAUSTED, its time ran out in the queue.
        """
        if call.deadline != NO_DEADLINE:
            call.done.wait(max(0.0, call.deadline - time.monotonic()))
            if not call.taken and not call.done.is_set():
                raise _expired()
        call.done.wait()

    def _queue(self, feeds: Mapping[str, Any], fetches: Sequence[str]) -> BatchQueue:
        key = frozenset(feeds), frozenset(fetches)
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                names = sorted(key[1])
                queue = BatchQueue(self._options, lambda batch: self._process(batch, names))
                self._queues[key] = queue
                self._scheduler.add_queue(queue)
            return queue

    def _process(self, batch: Batch, fetches: list[str]) -> None:
        try:
            outputs = self._run_batch(batch, fetches)
        except ServingError as error:
            for part in batch.parts:
                part.call.finish(part.index, error)
            return
        except Exception as error:  # noqa: BLE001 - a caller waits for each part
            failed = ServingError(grpc.StatusCode.INTERNAL, f"The batch failed: {error}")
            for part in batch.parts:
                part.call.finish(part.index, failed)
            return
        for part, rows in zip(batch.parts, outputs, strict=True):
            part.call.finish(part.index, rows)

    def _run_batch(self, batch: Batch, fetches: list[str]) -> list[list[np.ndarray]]:
        """Each part's rows of each fetched tensor."""
        timeout = self._time_left(batch)
        size = self._options.padded_size(batch.size)
        self._recorder.observe_batch(size, size - batch.size)
        feeds = merging.merged(
            [part.feeds() for part in batch.parts],
            padding=size - batch.size,
            pad_lengths=self._options.pad_lengths,
        )
        try:
            values = self._session.run(feeds, fetches, timeout)
        finally:
            self._recorder.count_wrapped_run()
        return merging.split([np.asarray(value) for value in values], _sizes(batch), size)

    def _time_left(self, batch: Batch) -> float | None:
        """The longest time that a caller of the batch has left; None, no end.

        Raises:
            ServingError: RESOURCE_EXHAUSTED, every caller's time ran out in the queue.
        """
        now = time.monotonic()
        for part in batch.parts:
            part.call.taken = True
            self._recorder.observe_queuing(self._scheduler.name, now - part.call.enqueued)
        latest = max(part.call.deadline for part in batch.parts)
        if latest <= now:
            raise _expired()
        return None if latest == NO_DEADLINE else latest - now


def _sizes(batch: Batch) -> list[int]:
    return [part.size for part in batch.parts]


def _expired() -> ServingError:
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
    )


def _unavailable(message: str) -> None:
    raise ServingError(grpc.StatusCode.UNAVAILABLE, message)
