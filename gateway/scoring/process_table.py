"""A few numbers for each of several forked processes, in memory that all of them share.

What makes it safe to lose a process at any moment is that the kernel, not we, holds the locks: a
POSIX record lock belongs to a process and goes with it, even by SIGKILL. Each process holds one on
its slot for as long as it lives, so that a slot whose lock can be had belongs to nobody; pids,
which are used again, play no part. Child processes do not inherit these locks.
"""

import fcntl
import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from gateway.shared_words import nameless_file

SLOTS = 1024

_WORD = 8
_LAST_TICKET, _SLOTS_USED, _FIRST_SLOT = 0, 1, 2
_TABLE_LOCK = 0
_FIRST_SLOT_LOCK = 1


@dataclass(frozen=True)
class Slot:
    """One process's numbers: bytes that it holds, and the ticket of its first waiter or 0."""

    number: int
    held: int
    ticket: int


class ProcessTable:
    """The numbers of each process. Made before the processes fork; each then joins once.

    Record locks do not tell the threads of a process apart: one thread at a time may use a table,
    which its owner's lock sees to.
    """

    def __init__(self) -> None:
        self._file = nameless_file("process-table")
        memory = mmap.mmap(-1, (_FIRST_SLOT + 2 * SLOTS) * _WORD)
        self._words = memoryview(memory).cast("Q")
        self._own: int | None = None

    def forget_parent(self) -> None:
        """Own no slot: to be called in a new child, whose parent owns the one it knows of."""
        self._own = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from the table for the block, which must be short."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _TABLE_LOCK)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _TABLE_LOCK)

    def join(self) -> None:
        """Take a slot for this process unless it has one. Inside `locked`."""
        if self._own is not None:
            return
        for number in range(SLOTS):
            if self._take_lock(number):
                self._own = number
                self._words[_SLOTS_USED] = max(self._words[_SLOTS_USED], number + 1)
                self.write(0, 0)
                return
        raise RuntimeError(f"more than {SLOTS} processes share one table")

    def next_ticket(self) -> int:
        """A number higher than any before it. Inside `locked`."""
        self._words[_LAST_TICKET] += 1
        return self._words[_LAST_TICKET]

    def own(self) -> Slot:
        """This process's numbers, once it has joined."""
        if self._own is None:
            raise RuntimeError("this process has not joined the table")
        return self._slot(self._own)

    def write(self, held: int, ticket: int) -> None:
        """Set this process's numbers, once it has joined; each is written at one go."""
        self._write(self.own().number, held, ticket)

    def slots(self) -> list[Slot]:
        """The slots with numbers in them, those of dead processes included."""
        slots = (self._slot(number) for number in range(self._words[_SLOTS_USED]))
        return [slot for slot in slots if slot.held or slot.ticket]

    def clear_dead(self) -> None:
        """Empty the slots of processes that are gone. Inside `locked`."""
        for slot in self.slots():
            if slot.number != self._own and self._take_lock(slot.number):
                self._write(slot.number, 0, 0)
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _FIRST_SLOT_LOCK + slot.number)

    def _slot(self, number: int) -> Slot:
        word = _FIRST_SLOT + 2 * number
        return Slot(number, self._words[word], self._words[word + 1])

    def _write(self, number: int, held: int, ticket: int) -> None:
        word = _FIRST_SLOT + 2 * number
        self._words[word] = held
        self._words[word + 1] = ticket

    def _take_lock(self, number: int) -> bool:
        with suppress(BlockingIOError, PermissionError):
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FIRST_SLOT_LOCK + number)
            return True
        return False
