"""One decode child, as its worker sees it: started, given a picture, and killed.

What comes from a child is not trusted: it is read as JSON of known members, and pixels are copied
out of the shared file, whose end a child could cut off at any moment, rather than mapped.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import (
    CallerGone,
    DeadlineExceeded,
    DecoderDied,
    GatewayError,
    ImageTooLarge,
    UndecodableImage,
)
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.decode_limits import MESSAGE_BYTES, ImageLimits
from gateway.shared_words import nameless_file

PROGRAM = "gateway.scoring.decode_child"
HOME = Path(__file__).resolve().parents[2]
"""Where `gateway` is found."""

START_SECONDS = 30.0
"""Time for a new child to say that it is there."""

LOOK_SECONDS = 0.05
"""How often a thread that waits for its child looks whether its caller is still there."""

DEADLINE_MARGIN = 0.25
"""Seconds beyond the deadline that a child has to say that it is late, before it is killed."""

HANG_UP_MARGIN = 0.2
"""Seconds that a child has to finish when nobody waits for its picture any more.

A new child costs as much: who sends pictures and hangs up gets no more done than who stays.
"""

REAP_SECONDS = 1.0
KEPT_FILE = 1024 * 1024
"""Bytes of the shared file that stay between two pictures."""

PASSED_ON = ("LD_LIBRARY_PATH", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH")
"""Of the worker's environment, which has secrets in it, a child gets these."""

_PIXELS = [np.dtype(name).str for name in ("uint8", "uint16", "int32")]
_ERRORS: dict[object, type[GatewayError]] = {
    error.slug: error for error in (ImageTooLarge, UndecodableImage, DeadlineExceeded)
}

Take = Callable[[int], AbstractContextManager[None]]
"""Holds that many bytes of the budget."""


@dataclass(frozen=True)
class Task:
    """A picture to decode, until when, for whom, and the memory to hold before it is opened."""

    data: bytes
    preprocessing: Preprocessing
    limits: ImageLimits
    deadline: Deadline
    cancelled: Cancellation
    ahead: int

    @property
    def beside(self) -> int:
        """Bytes that it takes beside what the child says.

        They are the file twice, in shared memory and in the child, and the pixels once.
        """
        wanted = self.preprocessing
        return 2 * len(self.data) + wanted.height * wanted.width * wanted.channels


class DecodeProcess:
    """A child process; used by one thread at a time.

    `ended` is why it was ended, and empty while it lives; `asked` is whether an answer of its is
    outstanding; `resident` is its memory after its last picture.
    """

    def __init__(self, popen: subprocess.Popen[bytes], control: socket.socket, file: int) -> None:
        self._popen = popen
        self._control = control
        self._file = file
        self.ended = ""
        self.asked = False
        self.resident = 0

    @classmethod
    def start(cls) -> "DecodeProcess":
        """A new child, which lasts no longer than the thread that calls this.

        Raises:
            OSError: no process can be had.
        """
        file = nameless_file("picture")
        control, theirs = socket.socketpair()
        try:
            control.settimeout(LOOK_SECONDS)
            with theirs:
                popen = subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-m", PROGRAM, str(os.getpid()), str(file)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    cwd=HOME,
                    env=_environment(),
                    pass_fds=(file,),
                    process_group=0,
                )
        except BaseException:
            control.close()
            os.close(file)
            raise
        return cls(popen, control, file)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def wait_until_ready(self) -> None:
        """Wait until it takes pictures.

        Raises:
            DecoderDied: it ended instead.
            DeadlineExceeded: it took too long, and was killed.
        """
        self._listen(Deadline.after(START_SECONDS), Cancellation())

    def decode(self, task: Task, take: Take) -> np.ndarray:
        """The picture's pixels. After an error that is not the picture's the child has `ended`.

        Raises:
            BrokenPipeError: it was dead before it was asked.
            DecoderDied: it died of this picture, or while it had it.
            DeadlineExceeded: the time was up.
            CallerGone: nobody waits for the picture.
            GatewayError: the picture is at fault, or `take` said so.
        """
        with ExitStack() as held:
            held.enter_context(take(task.ahead + task.beside))
            os.pwrite(self._file, task.data, 0)
            how = _how(task.preprocessing, task.limits)
            self._say(b"%d %r %d %b" % (len(task.data), task.deadline.at, task.ahead, how))
            self.asked = True
            answer = self._listen(task.deadline, task.cancelled)
            if "needed" in answer:
                held.close()  # who waits for more must not keep others from theirs
                self._take(answer["needed"], task, take, held)
                answer = self._listen(task.deadline, task.cancelled)
            self.asked = False
            if "error" in answer:
                raise self._error(answer)
            return self._pixels(answer, task.preprocessing)

    def kill(self, why: str) -> None:
        """End it, whatever it does; nothing of it is left."""
        if not self.ended:
            self.ended = why
            self._popen.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(REAP_SECONDS)
            self._close()

    def _take(self, needed: object, task: Task, take: Take, held: ExitStack) -> None:
        """Hold the memory for as long as the stack lasts, and tell the child."""
        if type(needed) is not int or needed < 0:
            raise self._lost("It asked for no amount of memory.")
        try:
            held.enter_context(take(needed + task.beside))
        except BaseException:
            self._say(b"false")
            self._listen(Deadline.after(1.0), Cancellation())
            self.asked = False
            raise
        self._say(b"true")

    def _pixels(self, answer: dict[str, Any], wanted: Preprocessing) -> np.ndarray:
        if answer.get("pixels") not in _PIXELS:
            raise self._lost("It answered pixels that were not asked for.")
        pixels = np.empty((wanted.height, wanted.width, wanted.channels), answer["pixels"])
        if os.preadv(self._file, [pixels.data.cast("B")], 0) != pixels.nbytes:
            raise self._lost("Its pixels are missing.")
        if os.fstat(self._file).st_size > KEPT_FILE:
            os.ftruncate(self._file, 0)
        return pixels

    def _error(self, answer: dict[str, Any]) -> GatewayError:
        """What the child says is wrong with the picture."""
        error = _ERRORS.get(answer["error"])
        if error is None:
            return self._lost("It answered an error that is unknown.")
        return error(str(answer.get("message")), log_detail=str(answer.get("detail")))

    def _say(self, line: bytes) -> None:
        try:
            self._control.sendall(line + b"\n")
        except OSError:
            self.kill("died")
            raise BrokenPipeError from None

    def _listen(self, deadline: Deadline, cancelled: Cancellation) -> dict[str, Any]:
        """Its next message; it is killed where none comes in time."""
        message = self._receive(deadline.at + DEADLINE_MARGIN, cancelled)
        try:
            answer = json.loads(message)
            self.resident = int(answer.get("resident", self.resident))
        except (ValueError, TypeError, AttributeError) as error:
            raise self._lost(f"It sent {message[:100]!r}.") from error
        return dict(answer)

    def _receive(self, give_up: float, cancelled: Cancellation) -> bytes:
        """One line of its."""
        line = b""
        while not line.endswith(b"\n"):
            try:
                part = self._control.recv(MESSAGE_BYTES)
            except TimeoutError:
                give_up = self._look(give_up, cancelled)
                continue
            except ConnectionError:
                part = b""
            if not part or len(line) > MESSAGE_BYTES:
                raise self._lost("")
            line += part
        return line

    def _look(self, give_up: float, cancelled: Cancellation) -> float:
        """When to give up, now that it has not answered yet."""
        gone, now = cancelled.is_set(), time.monotonic()
        if gone:
            give_up = min(give_up, now + HANG_UP_MARGIN)
        if now < give_up:
            return give_up
        self.kill("caller-gone" if gone else "deadline")
        if gone:
            raise CallerGone("The caller hung up while its picture was decoded.")
        raise DeadlineExceeded("The time for this request ran out in its decoding.")

    def _lost(self, detail: str) -> DecoderDied:
        self.kill("died")
        code = self._popen.returncode
        return DecoderDied(
            "The process that decoded the picture ended before it was done. If it happens again, "
            "save the picture again as JPEG or PNG.",
            log_detail=f"child {self.pid} ended with {code}. {detail}".rstrip(),
        )

    def _close(self) -> None:
        self._control.close()
        os.close(self._file)


@lru_cache(maxsize=64)
def _how(preprocessing: Preprocessing, limits: ImageLimits) -> bytes:
    return json.dumps({"preprocessing": vars(preprocessing), "limits": vars(limits)}).encode()


def _environment() -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed_on, "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"}
