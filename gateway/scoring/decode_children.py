"""The decode children of a worker: how many there are, who has which, and how they are replaced.

They are started by a thread of their own, which lasts as long as the worker: the kernel ends a
child with the thread that started it (prctl(2), PR_SET_PDEATHSIG). Each is a fresh program, never a
copy of this process, whose threads hold locks that a copy would never see let go.
"""

import logging
import threading
from functools import partial
from typing import Protocol

import numpy as np

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import CallerGone, GatewayError, Overloaded
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.decode_limits import RESIDENT_MOST, ImageLimits
from gateway.scoring.decode_process import DecodeProcess, Task

LOOK_SECONDS = 0.1
"""How often a thread that waits for a child looks whether its caller is still there."""

AHEAD = 8 * 1024 * 1024
"""Bytes of the budget that are held before a picture is opened: enough for one of 1 megapixel.

A child that needs more asks for it, and both sides wait for their turn once more.
"""

START_AGAIN_SECONDS = 1.0
"""Pause after a child that could not be started."""

logger = logging.getLogger("tensorgate.decoding")


class ChildMetrics(Protocol):
    """What is counted of a worker's children."""

    def decode_children(self, alive: int) -> None:
        """Say how many there are in this worker."""

    def decode_child_ended(self, reason: str) -> None:
        """Count one that was killed, replaced or died."""


class DecodeChildren:
    """Up to `most` children, one more than are in use, so that the next picture finds one.

    Args:
        most: how many there may be at once.
        limits: what is refused before it is decoded.
        budget: of which each decode holds what it needs.
        metrics: told of children.
    """

    def __init__(
        self, most: int, limits: ImageLimits, budget: DecodeBudget, metrics: ChildMetrics
    ) -> None:
        self._most = most
        self._limits = limits
        self._budget = budget
        self._metrics = metrics
        lock = threading.Lock()
        self._came_free = threading.Condition(lock)
        self._wanted = threading.Condition(lock)
        self._queue: list[object] = []
        self._idle: list[DecodeProcess] = []
        self._alive = 0
        self._stopped = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="decode-children", daemon=True)

    def start(self) -> None:
        """Start the first child; called in the worker, after the fork."""
        self._keeper.start()

    def stop(self) -> None:
        """End the children that have no picture, the others when they are done with theirs."""
        with self._wanted:
            self._stopped.set()
            self._wanted.notify_all()
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill("stopped")
        self._keeper.join()

    def pids(self) -> list[int]:
        """The process ids of the children that have no picture."""
        with self._came_free:
            return [child.pid for child in self._idle]

    def decode(
        self,
        data: bytes,
        preprocessing: Preprocessing,
        deadline: Deadline,
        cancelled: Cancellation | None = None,
    ) -> np.ndarray:
        """The picture's pixels: `images.decode`, in a child.

        Raises:
            ImageTooLarge: the picture, or the memory it needs, is larger than is allowed.
            UndecodableImage: it is no picture of a format that is read, or a broken one.
            DeadlineExceeded: the time was up; the child was killed if it did not see that.
            Overloaded: no child, or no memory, came free in time.
            CallerGone: nobody waits for the picture.
            DecoderDied: the child died.
        """
        self._limits.check_file(data)
        deadline.check("picture was decoded")
        cancelled = cancelled or Cancellation()
        ahead = min(AHEAD, self._budget.total_bytes // 16)
        task = Task(data, preprocessing, self._limits, deadline, cancelled, ahead)
        take = partial(self._budget.take, deadline=deadline, cancelled=cancelled)
        while True:
            child = self._borrow(deadline, cancelled)
            try:
                return child.decode(task, take)
            except BrokenPipeError:
                continue  # it was dead already, and not of this picture
            finally:
                self._give_back(child)

    def _borrow(self, deadline: Deadline, cancelled: Cancellation) -> DecodeProcess:
        """A child that has no picture, first come first served."""
        place = object()
        with self._came_free:
            self._queue.append(place)
            try:
                while not (self._idle and self._queue[0] is place):
                    _check_wait(deadline, cancelled)
                    self._came_free.wait(min(LOOK_SECONDS, deadline.remaining()))
                return self._idle.pop()
            finally:
                self._queue.remove(place)
                if self._queue:
                    self._came_free.notify_all()
                if self._lacking():
                    self._wanted.notify()

    def _give_back(self, child: DecodeProcess) -> None:
        if child.resident > RESIDENT_MOST or child.asked:
            child.kill("replaced")
        if child.ended:
            self._replace(child)
            return
        with self._came_free:
            if not self._stopped.is_set():
                self._idle.append(child)
                self._came_free.notify_all()
                return
        child.kill("stopped")

    def _replace(self, child: DecodeProcess) -> None:
        """The child has ended: have another one started."""
        with self._wanted:
            self._alive -= 1
            self._wanted.notify()
        self._metrics.decode_children(self._alive)
        self._metrics.decode_child_ended(child.ended)
        logger.info("decode child %d ended: %s", child.pid, child.ended)

    def _lacking(self) -> bool:
        return not self._idle and self._alive < self._most

    def _keep(self) -> None:
        """Start a child whenever none is left for the next picture."""
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._stopped.is_set() or self._lacking())
            if self._stopped.is_set():
                return
            self._start_one()

    def _start_one(self) -> None:
        try:
            child = DecodeProcess.start()
            child.wait_until_ready()
        except (OSError, GatewayError) as error:
            detail = getattr(error, "log_detail", "") or str(error)
            logger.error("no decode child could be started: %s", detail)
            self._stopped.wait(START_AGAIN_SECONDS)
            return
        with self._came_free:
            self._alive += 1
        self._metrics.decode_children(self._alive)
        self._give_back(child)


def _check_wait(deadline: Deadline, cancelled: Cancellation) -> None:
    if cancelled.is_set():
        raise CallerGone("The caller hung up before its picture was decoded.")
    if deadline.expired():
        raise Overloaded(
            "Too many pictures are being decoded; none was done in time for this one to start. "
            "Try again later.",
            retry_after=1,
        )
