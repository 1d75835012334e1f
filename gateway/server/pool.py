"""A fixed number of threads that run whole requests.

Not concurrent.futures: its threads keep a stopping process alive until the last one returns, and a
request that nobody waits for any more must not be run at all.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]


class Pool:
    """Threads that run jobs in the order they came; how many may wait is its users' concern."""

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
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
        self._jobs.put(job)

    def stop(self) -> None:
        """Let each thread end after the job it has; none is waited for."""
        for _ in self._threads:
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
