"""Listening sockets that several worker processes share, and who takes the next connection."""

import asyncio
import contextlib
import ctypes
import errno
import mmap
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

YIELD_SECONDS = 0.002
"""How long a worker with more connections than another leaves a new one to that other."""
MOST_AT_CLOSE = 4096
"""Connections that are still taken from a queue that is about to be closed."""
EXHAUSTED_SECONDS = 0.1
"""How long nothing is accepted when the process has no descriptor left."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FREE = -1

_SO_ATTACH_FILTER = 26
_DROP_SYN = (
    struct.pack("HBBI", 0x30, 0, 0, 13),  # load the byte at 13 of the TCP header: its flags
    struct.pack("HBBI", 0x45, 0, 1, 0x02),  # unless SYN is set, skip the next
    struct.pack("HBBI", 0x06, 0, 0, 0),  # drop
    struct.pack("HBBI", 0x06, 0, 0, 0xFFFFFFFF),  # keep
)


class Board:
    """How many connections each worker has and whether all end, in memory that all of them see.

    Made before the fork. The master gives each worker a slot; a worker writes its own slot only,
    and reads of the others may be a moment old.
    """

    def __init__(self, slots: int) -> None:
        shared = memoryview(mmap.mmap(-1, 4 * (slots + 1))).cast("i")
        self._counts, self._ending = shared[:slots], shared[slots:]
        for slot in range(slots):
            self._counts[slot] = _FREE

    def take(self) -> int:
        """A free slot, for a worker that is about to be forked; the last one when none is free."""
        free = (slot for slot, count in enumerate(self._counts) if count == _FREE)
        slot = next(free, len(self._counts) - 1)
        self._counts[slot] = 0
        return slot

    def free(self, slot: int) -> None:
        """Take a worker that has ended off the board."""
        self._counts[slot] = _FREE

    def write(self, slot: int, connections: int) -> None:
        """Say how many connections a worker has."""
        self._counts[slot] = connections

    def another_has_fewer(self, slot: int) -> bool:
        """Whether some other worker has fewer connections."""
        mine = self._counts[slot]
        return any(_FREE < count < mine for count in self._counts)

    @property
    def ending(self) -> bool:
        """Whether the master has been told to end, and not only one of its workers."""
        return bool(self._ending[0])

    def end(self) -> None:
        """Say that the master has been told to end."""
        self._ending[0] = 1


def refuse_newcomers(listener: socket.socket) -> None:
    """Let no new handshake begin on a listening socket, in no process that shares it.

    To close a listening socket resets the connections in its queue, and one may be made between
    the last look at the queue and the close. So the kernel first drops what would begin another,
    by a filter on TCP's SYN flag (Linux, socket(7)); where it cannot, that moment's risk remains.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(_DROP_SYN))
    option = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)


class Listener:
    """Takes connections from a listening socket, one at a time so that workers share them.

    Args:
        listener: the socket.
        protocol: makes the protocol of a new connection.
        give_way: whether another worker should have the next one.
        exhausted: called when this process has no descriptor left for another connection.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        give_way: Callable[[], bool] = lambda: False,
        exhausted: Callable[[], object] = lambda: None,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._give_way = give_way
        self._exhausted = exhausted
        self._closing = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to accept, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._readable)

    def close(self) -> None:
        """Take what callers have already connected to, then listen no more."""
        self._closing = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener.fileno())
        for _ in range(MOST_AT_CLOSE):
            if not self._accept():
                break
        self._listener.close()

    def _readable(self) -> None:
        if self._give_way():
            self._resume_after(YIELD_SECONDS, self._accept)
        else:
            self._accept()

    def _resume_after(self, seconds: float, then: Callable[[], object]) -> None:
        """Look away from the socket for a while."""

        def resume() -> None:
            self._pause = None
            then()
            if self._pause is None:
                self._loop.add_reader(self._listener.fileno(), self._readable)

        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(seconds, resume)

    def _accept(self) -> bool:
        """Take one connection; False when there is none to take."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._exhausted()
            if not self._closing:
                self._resume_after(EXHAUSTED_SECONDS, lambda: None)
            return False
        task = self._loop.create_task(self._connect(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _connect(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(self._protocol, accepted)
