"""A few whole numbers that forked processes share and change one at a time."""

import fcntl
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_WORD = 8


class SharedWords:
    """Numbers from 0 to 2**64 - 1, all 0 at first. Made before the processes fork.

    One of them can be read or written at any time, at one go. What depends on what was read is
    written inside `locked`. The lock is the kernel's and goes with the process that holds it, even
    by SIGKILL; whoever writes several words sees to it that each order of them makes sense.
    """

    def __init__(self, count: int) -> None:
        self._words = memoryview(mmap.mmap(-1, count * _WORD)).cast("Q")
        self._file = nameless_file("shared-words")
        self._threads = threading.Lock()

    def __getitem__(self, place: int) -> int:
        return self._words[place]

    def __setitem__(self, place: int, value: int) -> None:
        self._words[place] = value

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads and processes from this for the block, which must be short."""
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def nameless_file(label: str) -> int:
    """A file in memory that no path leads to, where there is such a thing; `/proc` shows its label.

    One that locks are taken on is never closed: closing any descriptor of a file gives up all of
    the process's locks on it.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(label)
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor
