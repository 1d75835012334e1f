"""`python -m gateway.scoring.decode_child`: decodes pictures for the worker that started it.

A stranger's bytes meet a decoder written in C only here, in a process that holds nothing of anybody
else's, opens nothing, and can be killed at any moment. It gets each picture's file in a nameless
file in memory that it shares with its worker, and leaves the pixels there; what else is said goes
as lines of JSON over a socket, its standard input (`DecodeProcess` is the other end):

    worker: the file's bytes, the deadline and the bytes of memory that are held, as numbers, and
            {"preprocessing": …, "limits": …}, the same text as long as these are the same
    child:  {"needed": …}      if more memory than is held; the worker says true once it is
    child:  {"pixels": NumPy's name of their type, "resident": …}
            or {"error": …, "message": …, "detail": …, "resident": …}

It ends with its worker, however that ends.
"""

import ctypes
import json
import math
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np

from gateway.deadline import Deadline
from gateway.errors import GatewayError, Overloaded
from gateway.scoring import allocator
from gateway.scoring.contract_document import LARGEST_SIDE, Preprocessing
from gateway.scoring.decode_limits import MESSAGE_BYTES, RESIDENT_MOST, ImageLimits
from gateway.scoring.images import decode

MIB = 1024 * 1024

LONGEST_TEXT = 1000
"""Characters of what is said about a picture: a reader's exception may quote all of it."""

ROOM = 64 * MIB
"""Address space beyond what a picture needs that decoding it may take."""

OPENING = 10
"""Bytes of address space for each pixel that may be allowed, which a reader reserves on opening."""

LARGEST_PIXELS = LARGEST_SIDE * LARGEST_SIDE * 4
"""Bytes of the largest picture that a contract can ask for."""

IDLE_SECONDS = 1.0
"""Having waited so long for a picture, a child gives its free memory back."""

CPU_MARGIN = 2
"""Seconds of processor time after a picture's deadline at which the kernel ends the child."""

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
"""prctl(2)'s names."""


class Child:
    """The child's side of the conversation.

    Args:
        control: the socket to the worker.
        file: descriptor of the shared file.
    """

    def __init__(self, control: socket.socket, file: int) -> None:
        self._control = control
        self._control.settimeout(IDLE_SECONDS)
        self._file = file
        self._processor_time = 0
        self._sizes = os.open("/proc/self/statm", os.O_RDONLY) if sys.platform == "linux" else None

    def serve(self) -> None:
        """Decode one picture after another until the worker is gone."""
        self._say({"resident": self.sizes()[1]})
        while request := self._hear(allocator.give_back):
            self._say(self._answer(request))

    def _hear(self, once_idle: Callable[[], None] = lambda: None) -> bytes:
        """The worker's next line, empty once it is gone; `once_idle` before a long wait."""
        line = b""
        while not line.endswith(b"\n"):
            part = self._receive(once_idle)
            if not part:
                return b""
            line += part
        return line

    def _receive(self, once_idle: Callable[[], None]) -> bytes:
        try:
            return self._control.recv(MESSAGE_BYTES)
        except TimeoutError:
            once_idle()
        self._control.settimeout(None)
        try:
            return self._control.recv(MESSAGE_BYTES)
        finally:
            self._control.settimeout(IDLE_SECONDS)

    def _answer(self, request: bytes) -> dict[str, Any]:
        size, until, held, how = request.split(b" ", 3)
        wanted, limits = _understood(how)
        deadline = Deadline(float(until))
        data = os.pread(self._file, int(size), 0)
        self._bound_processor_time(deadline)
        try:
            with self.bounded(ROOM + OPENING * limits.max_pixels):
                pixels = decode(data, wanted, limits, deadline, Memory(self, int(held)))
            answer: dict[str, Any] = {"pixels": pixels.dtype.str}
            os.pwrite(self._file, np.ascontiguousarray(pixels).data, 0)
        except GatewayError as error:
            message, detail = error.message[:LONGEST_TEXT], error.log_detail[:LONGEST_TEXT]
            answer = {"error": error.slug, "message": message, "detail": detail}
        return {**answer, "resident": self._resident_after()}

    def _bound_processor_time(self, deadline: Deadline) -> None:
        """Have the kernel end this process if it still works long after the deadline.

        It is what ends a child whose worker is stopped and cannot.
        """
        seconds = math.ceil(time.process_time() + deadline.remaining()) + CPU_MARGIN
        if not seconds <= self._processor_time < seconds + CPU_MARGIN:
            self._processor_time = seconds
            _, highest = resource.getrlimit(resource.RLIMIT_CPU)
            with suppress(ValueError):
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, highest))

    def ask(self, bytes_needed: int) -> bool:
        """Have the worker hold as much memory; whether it does."""
        self._say({"needed": bytes_needed})
        message = self._hear()
        if not message:
            raise SystemExit
        return bool(json.loads(message))

    @contextmanager
    def bounded(self, more: int) -> Iterator[None]:
        """Let the process grow by that many bytes of address space in the block, and no further.

        Whatever asks for more is refused it.
        """
        before, highest = resource.getrlimit(resource.RLIMIT_AS)
        if self._sizes is None:
            yield
            return
        limit_address_space(self.sizes()[0] + more, highest)
        try:
            yield
        finally:
            limit_address_space(before, highest)

    def sizes(self) -> tuple[int, int]:
        """Bytes of address space, and of memory that is resident."""
        if self._sizes is None:
            return 0, 0
        fields = os.pread(self._sizes, 256, 0).split()
        page = resource.getpagesize()
        return int(fields[0]) * page, int(fields[1]) * page

    def _resident_after(self) -> int:
        resident = self.sizes()[1]
        if resident > RESIDENT_MOST:
            allocator.give_back()
            resident = self.sizes()[1]
        return resident

    def _say(self, message: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode() + b"\n")


class Memory:
    """The worker's budget, seen from here.

    Args:
        child: asks for more.
        held: bytes of it that are held already.
    """

    def __init__(self, child: Child, held: int) -> None:
        self._child = child
        self._held = held

    @contextmanager
    def take(self, bytes_needed: int, deadline: Deadline) -> Iterator[None]:
        """Decode with as much, twice that and some room at most.

        Raises:
            Overloaded: the worker has given none, and knows why; the deadline plays no part here.
        """
        del deadline
        if bytes_needed > self._held and not self._child.ask(bytes_needed):
            raise Overloaded("No memory was given for the picture.")
        with self._child.bounded(2 * bytes_needed + ROOM):
            yield


@lru_cache(maxsize=64)
def _understood(how: bytes) -> tuple[Preprocessing, ImageLimits]:
    document = json.loads(how)
    fields = document["preprocessing"]
    color = fields["transparency"]
    fields["transparency"] = None if color is None else tuple(color)
    return Preprocessing(**fields), ImageLimits(**document["limits"])


def limit_address_space(size: int, highest: int) -> None:
    """Set the soft limit, which can be taken back, as far as the hard one allows."""
    if highest != resource.RLIM_INFINITY:
        size = highest if size == resource.RLIM_INFINITY else min(size, highest)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (size, highest))


def confine(worker: int) -> None:
    """End with the worker, heed nobody but it, and do without what decoding does not need.

    The terminal's and the service manager's signals to stop are for the worker, which answers what
    it has before it ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != worker:
        raise SystemExit  # it ended before it could be followed
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, LARGEST_PIXELS),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))


def main() -> None:
    """Serve the worker whose process id and shared file's descriptor are the arguments."""
    worker, file = int(sys.argv[1]), int(sys.argv[2])
    confine(worker)
    allocator.keep_much()
    with suppress(BrokenPipeError, ConnectionResetError):
        Child(socket.socket(fileno=0), file).serve()


if __name__ == "__main__":
    main()
