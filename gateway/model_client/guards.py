"""What keeps an outage of TensorFlow Serving from being made worse, shared by all workers.

A budget bounds the tries of calls that are repeated, and a circuit for each model ends calls before
they are made once nothing answers any more. Both are made before the workers fork.
"""

import enum
import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from gateway.deadline import Deadline
from gateway.errors import DeadlineExceeded, ModelUnavailable
from gateway.model_client.failures import Unreachable, VersionMoved
from gateway.shared_words import SharedWords

FAILURES = 5
"""Calls in a row that fail before a circuit opens."""

OPEN_SECONDS = 5.0
"""For so long is no call made through an open circuit, unless its server is seen earlier."""

RESERVE = 16
"""Tries that calls of a client which was given no guards may spend."""

_FAILED_IN_A_ROW, _SUCCEEDED_AT, _RETRY_AT, _PROBE_UNTIL, _TIMES_OPENED, _WORDS = range(6)
_SECOND = 1_000_000_000

logger = logging.getLogger("tensorgate.models")


class RetryBudget:
    """What all calls of all workers together may spend on further tries.

    Each successful call earns a fifth of a try, up to the reserve, so that in no stretch of time
    there are more tries than a fifth of its successes and the reserve.

    Args:
        reserve: tries that may follow each other without a success between them.
    """

    _TRY, _EARNED = 5, 1

    def __init__(self, reserve: int) -> None:
        self._full = reserve * self._TRY
        self._balance = SharedWords(1)
        self._balance[0] = self._full

    def earn(self) -> None:
        """A call succeeded."""
        if self._balance[0] < self._full:
            with self._balance.locked():
                self._balance[0] = min(self._full, self._balance[0] + self._EARNED)

    def spend(self) -> bool:
        """Whether another try may be made; if so, it is paid for."""
        with self._balance.locked():
            if self._balance[0] < self._TRY:
                return False
            self._balance[0] -= self._TRY
            return True


class State(enum.Enum):
    """What a circuit does with calls."""

    CLOSED = "closed"
    """Calls are made."""
    OPEN = "open"
    """None is."""
    HALF_OPEN = "half-open"
    """One is, and its outcome closes or opens the circuit."""


class Circuit:
    """Ends the calls of one model before they are made while nothing answers them.

    Only what shows that nobody answers moves it: a call that met no server or lost its connection
    after its last try, and one whose time ran out although it had `min_time`; both only if no other
    call has succeeded since it began, so that one server of several cannot open it. Answers of any
    other sort, be it a full queue or a refused tensor, leave it as it is.

    Args:
        model: the model's name.
        min_time: seconds that a call must have had for the end of its time to count.
        failures: calls in a row that open it.
    """

    def __init__(self, model: str, min_time: float, failures: float = FAILURES) -> None:
        self.model = model
        self._min_time = min_time
        self._failures = failures
        self._words = SharedWords(_WORDS)

    @property
    def state(self) -> State:
        """What it does now."""
        retry_at = self._words[_RETRY_AT]
        if not retry_at:
            return State.CLOSED
        return State.OPEN if time.monotonic_ns() < retry_at else State.HALF_OPEN

    @property
    def times_opened(self) -> int:
        """How often it has opened after being closed."""
        return self._words[_TIMES_OPENED]

    def check(self) -> None:
        """Go on only where a call may be made now.

        Raises:
            ModelUnavailable: it is open, or the call that decides is under way.
        """
        retry_at = self._words[_RETRY_AT]
        if not retry_at:
            return
        wait = max(retry_at, self._words[_PROBE_UNTIL]) - time.monotonic_ns()
        if wait > 0:
            raise ModelUnavailable(
                f"TensorFlow Serving has stopped answering for {self.model!r}; try again soon.",
                log_detail=f"the circuit is {self.state.value}",
                retry_after=max(1, math.ceil(min(wait / _SECOND, OPEN_SECONDS))),
            )

    @contextmanager
    def guard(self, deadline: Deadline) -> Iterator[bool]:
        """Make a call in the block; whether it is the one that decides is what the block gets.

        Raises:
            ModelUnavailable: no call may be made now.
        """
        began, seconds = time.monotonic_ns(), deadline.remaining()
        decides = self._enter(seconds)
        failed = False
        try:
            yield decides
        except VersionMoved:
            raise
        except Unreachable:
            failed = True
            raise
        except DeadlineExceeded:
            failed = seconds >= self._min_time
            raise
        else:
            self._succeeded()
        finally:
            if failed:
                self._failed(began, decides=decides)
            elif decides:
                self._words[_PROBE_UNTIL] = 0

    def try_soon(self) -> None:
        """A server has been seen: the next call decides, however long the circuit has been open."""
        with self._words.locked():
            if self._words[_RETRY_AT]:
                self._words[_RETRY_AT] = min(self._words[_RETRY_AT], time.monotonic_ns())

    def _enter(self, seconds: float) -> bool:
        if not self._words[_RETRY_AT]:
            return False
        with self._words.locked():
            self.check()
            if not self._words[_RETRY_AT]:
                return False
            # Should this process die, another call decides once this one's time is over.
            self._words[_PROBE_UNTIL] = time.monotonic_ns() + int(seconds * _SECOND)
            return True

    def _succeeded(self) -> None:
        self._words[_SUCCEEDED_AT] = time.monotonic_ns()
        if not self._words[_FAILED_IN_A_ROW] and not self._words[_RETRY_AT]:
            return
        with self._words.locked():
            was_open = self._words[_RETRY_AT]
            for place in (_FAILED_IN_A_ROW, _RETRY_AT, _PROBE_UNTIL):
                self._words[place] = 0
        if was_open:
            logger.warning("model %s: its circuit is closed, calls are made again", self.model)

    def _failed(self, began: int, *, decides: bool) -> None:
        opened = False
        with self._words.locked():
            was_open = self._words[_RETRY_AT]
            if self._words[_SUCCEEDED_AT] < began and (decides or not was_open):
                self._words[_FAILED_IN_A_ROW] += 1
                if decides or self._words[_FAILED_IN_A_ROW] >= self._failures:
                    opened = not was_open
                    self._words[_TIMES_OPENED] += opened
                    self._words[_RETRY_AT] = time.monotonic_ns() + int(OPEN_SECONDS * _SECOND)
            if decides:
                self._words[_PROBE_UNTIL] = 0
        if opened:
            logger.warning("model %s: its circuit is open, nothing answers", self.model)


class Guards:
    """The budget and the circuits of one gateway.

    Args:
        models: whose calls go through a circuit; those of others always are made.
        reserve: tries that calls may spend without a success between them.
        min_time: seconds that a call must have had for the end of its time to count.
    """

    def __init__(
        self, models: Iterable[str] = (), reserve: int = RESERVE, min_time: float = 0.0
    ) -> None:
        self.budget = RetryBudget(reserve)
        self._circuits = {name: Circuit(name, min_time) for name in models}
        self._never_opens = Circuit("", min_time, failures=math.inf)

    def circuit(self, model: str) -> Circuit:
        """The model's circuit."""
        return self._circuits.get(model, self._never_opens)

    @property
    def circuits(self) -> tuple[Circuit, ...]:
        """Every model's circuit."""
        return tuple(self._circuits.values())
