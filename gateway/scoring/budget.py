"""Memory for decoding, shared by all workers of a container.

A limit of pixels alone bounds nothing: as many pictures are decoded at once as there are threads
in all workers. Here each decode takes the bytes it needs out of one budget and waits for them,
first come first served, so that small pictures cannot keep a large one waiting for ever.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import CallerGone, ImageTooLarge, Overloaded
from gateway.scoring.process_table import ProcessTable

POLL_SECONDS = 0.003
"""How often the first waiter of a process looks whether another process gave something back."""

LOOK_SECONDS = 0.1
"""How often the others look whether their callers are still there."""

MIB = 1024 * 1024


class DecodeBudget:
    """Bytes that all workers together may use for decoding at once.

    It must be made before the workers fork. What a worker holds comes back when it dies, however
    it dies.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._table = ProcessTable()
        self._begin_process()
        budget = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _begin_child(budget()))

    @contextmanager
    def take(
        self, bytes_needed: int, deadline: Deadline, cancelled: Cancellation | None = None
    ) -> Iterator[None]:
        """Hold that many bytes for the block, having waited for them no longer than the deadline.

        Raises:
            ImageTooLarge: it is more than the whole budget.
            Overloaded: the deadline came first.
            CallerGone: nobody waits any more for what they are for.
        """
        if bytes_needed > self.total_bytes:
            raise ImageTooLarge(
                f"Decoding the picture takes about {bytes_needed / MIB:.0f} MiB of memory, and "
                f"the gateway has {self.total_bytes / MIB:.0f} MiB for it: send a smaller one."
            )
        with self._changed:
            self._wait(bytes_needed, deadline, cancelled or Cancellation())
        try:
            yield
        finally:
            with self._changed:
                own = self._table.own()
                self._table.write(own.held - bytes_needed, own.ticket)
                self._changed.notify_all()

    def in_use(self) -> int:
        """Bytes that are held now, by all workers."""
        with self._changed, self._table.locked():
            self._table.clear_dead()
            return sum(slot.held for slot in self._table.slots())

    def waiting(self) -> int:
        """How many workers have somebody waiting for a part of the budget."""
        with self._changed, self._table.locked():
            self._table.clear_dead()
            return sum(slot.ticket > 0 for slot in self._table.slots())

    def _begin_process(self) -> None:
        self._changed = threading.Condition()
        self._tickets: list[int] = []
        self._table.forget_parent()

    def _wait(self, bytes_needed: int, deadline: Deadline, cancelled: Cancellation) -> None:
        ticket = self._queue_up()
        try:
            while not self._granted(ticket, bytes_needed):
                if cancelled.is_set():
                    raise CallerGone("The caller hung up before its picture was decoded.")
                if deadline.expired():
                    raise Overloaded(
                        "Too many pictures are being decoded; none was done in time for this one "
                        "to start. Try again later.",
                        retry_after=1,
                    )
                first = ticket == self._tickets[0]
                poll = POLL_SECONDS if first else LOOK_SECONDS
                self._changed.wait(min(poll, deadline.remaining()))
        finally:
            self._tickets.remove(ticket)
            self._table.write(self._table.own().held, self._first_ticket())
            self._changed.notify_all()

    def _queue_up(self) -> int:
        with self._table.locked():
            self._table.join()
            ticket = self._table.next_ticket()
            self._tickets.append(ticket)
            self._table.write(self._table.own().held, self._first_ticket())
        return ticket

    def _first_ticket(self) -> int:
        return self._tickets[0] if self._tickets else 0

    def _granted(self, ticket: int, bytes_needed: int) -> bool:
        """Take the bytes if nobody came before and they are free."""
        if ticket != self._tickets[0]:
            return False
        with self._table.locked():
            if not self._free(ticket, bytes_needed):
                self._table.clear_dead()
                if not self._free(ticket, bytes_needed):
                    return False
            self._table.write(self._table.own().held + bytes_needed, ticket)
            return True

    def _free(self, ticket: int, bytes_needed: int) -> bool:
        slots = self._table.slots()
        first = all(slot.ticket == 0 or slot.ticket >= ticket for slot in slots)
        return first and sum(slot.held for slot in slots) + bytes_needed <= self.total_bytes


def _begin_child(budget: DecodeBudget | None) -> None:
    if budget is not None:
        budget._begin_process()
