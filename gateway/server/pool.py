"""A fixed number of threads that run whole requests.

Not concurrent.futures: its threads keep a stopping process alive until the last one returns, and a
request that nobody waits for any more must not be run at all.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


class Pool:
    """Threads that run jobs in the order they came; how many may wait is its users' concern."""

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: deque[Job | None] = deque()
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job, which raises nothing."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def withdraw(self, job: Job) -> None:
        """Take a job back, with all that it holds, unless a thread has it already."""
        with self._changed, contextlib.suppress(ValueError):
            self._jobs.remove(job)

    def stop(self) -> None:
        """Let each thread end after the job it has; none is waited for."""
        with self._changed:
            self._jobs.extend([None] * len(self._threads))
            self._changed.notify_all()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            job()
            del job  # and all that it holds, while this thread waits

    def _next(self) -> Job | None:
        with self._changed:
            while not self._jobs:
                self._changed.wait()
            return self._jobs.popleft()
