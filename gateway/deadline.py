"""One clock per request."""

import time
from dataclasses import dataclass

from gateway.errors import DeadlineExceeded


@dataclass(frozen=True)
class Deadline:
    """The moment by which a request is answered, on the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - time.monotonic())

    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() == 0.0

    def check(self, stage: str) -> float:
        """Seconds left for the stage ("fetch", "decode", …).

        Raises:
            DeadlineExceeded: no time is left.
        """
        remaining = self.remaining()
        if remaining == 0.0:
            raise DeadlineExceeded(f"The time for this request ran out before its {stage}.")
        return remaining

    def sooner(self, seconds: float) -> "Deadline":
        """This deadline, or the one that many seconds from now if that comes first."""
        return Deadline(min(self.at, time.monotonic() + seconds))
