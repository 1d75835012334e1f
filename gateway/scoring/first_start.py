"""Whether the gateway has been ready once, in memory that all workers share."""

import mmap


class FirstStart:
    """Over once some worker has seen every model predict; made before the workers fork.

    A worker that replaces another one during an outage of the model server must not take the
    gateway out of its Service, so it asks this and not only what it has seen itself.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)

    @property
    def over(self) -> bool:
        """Whether some worker has ended it."""
        return self._memory[0] != 0

    def end(self) -> None:
        """Say that every model predicts."""
        self._memory[0] = 1
