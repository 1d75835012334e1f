"""A TCP proxy on loopback that does to connections what networks do to them."""

import contextlib
import math
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER by which a close sends RST."""

PIECE = 64 * 1024


@dataclass
class _Cut:
    """After how many bytes a connection is reset, how many are left, and how often."""

    after: int
    left: int
    times: float


@dataclass
class FaultProxy:
    """Passes bytes on, and harms them as its fields say at that moment.

    Args:
        target: where connections go.

    `silent` swallows what comes from both sides; `delay` is seconds before each piece is passed on;
    `rate` is bytes of the caller's that are passed on in a second. `connections` counts what was
    accepted.
    """

    target: tuple[str, int]
    silent: bool = False
    delay: float = 0.0
    rate: float = 0.0
    connections: int = 0
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answered: set[tuple[socket.socket, socket.socket]] = set()
        self._cuts: dict[bool, _Cut] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.getsockname()
        return host, port

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self.reset()
        for thread in tuple(self._threads):
            thread.join()
        self._listener.close()

    def heal(self) -> None:
        """Do no harm any more; where any was done, connections end."""
        harmed = self.silent or self.delay or self.rate or self._cuts
        self.silent, self.delay, self.rate = False, 0.0, 0.0
        self._cuts = {}
        if harmed:
            self.reset()

    def cut_requests(self, after: int, times: float = math.inf) -> None:
        """Reset the connection after so many bytes of the caller's, and that so many times."""
        self._cuts[True] = _Cut(after, after, times)

    def cut_answers(self, after: int, times: float = math.inf) -> None:
        """Reset the connection after so many bytes of the other side's, and that so many times."""
        self._cuts[False] = _Cut(after, after, times)

    def reset(self) -> None:
        """Answer on each connection with RST, as a machine does that knows nothing of it."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._end(pair)

    def tell_callers(self, octets: bytes) -> int:
        """Send these bytes to all callers that had an answer, so many; none may be under way."""
        with self._lock:
            told = self._answered.intersection(self._pairs)
            for caller, _ in told:
                with contextlib.suppress(OSError):  # who has just gone needs no telling
                    caller.sendall(octets)
            return len(told)

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if not _readable(self._listener):
                continue
            caller, _ = self._listener.accept()
            self.connections += 1
            try:
                other = socket.create_connection(self.target, timeout=5)
            except OSError:
                _close(caller)
                continue
            other.settimeout(None)
            with self._lock:
                self._pairs.append((caller, other))
            self._run(self._pass_on, (caller, other), caller, other)
            self._run(self._pass_on, (caller, other), other, caller)

    def _pass_on(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket
    ) -> None:
        asking = source is pair[0]
        with contextlib.suppress(OSError, ValueError):
            while not self._ended.is_set():
                if not _readable(source):
                    continue
                piece = source.recv(PIECE)
                if not piece:
                    break
                if not self._harm(piece, sink, asking=asking):
                    break
                if not asking:
                    self._answered.add(pair)
        self._end(pair)

    def _harm(self, piece: bytes, sink: socket.socket, *, asking: bool) -> bool:
        """Whether the connection goes on."""
        if self.silent:
            return True
        if self.delay:
            self._ended.wait(self.delay)
        if self.rate and asking:
            self._drip(piece, sink)
            return True
        kept = self._kept(piece, asking=asking)
        sink.sendall(kept)
        return kept == piece

    def _drip(self, piece: bytes, sink: socket.socket) -> None:
        for start in range(0, len(piece), 100):
            if self.rate and not self._ended.is_set():
                self._ended.wait(100 / self.rate)
            sink.sendall(piece[start : start + 100])

    def _kept(self, piece: bytes, *, asking: bool) -> bytes:
        """What is passed on of the piece; the connection ends where that is not all of it."""
        with self._lock:
            cut = self._cuts.get(asking)
            if cut is None or cut.times < 1:
                return piece
            kept = piece[: cut.left]
            cut.left -= len(kept)
            if kept != piece:
                cut.left, cut.times = cut.after, cut.times - 1
            return kept

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
        for end in pair:
            _close(end)


def _readable(source: socket.socket) -> bool:
    """Whether there is something to read or to hear of, waited for a moment."""
    return bool(select.select([source], [], [], 0.05)[0])


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()
