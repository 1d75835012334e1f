"""How often and how soon a call is tried again.

Full jitter under a cap, as "Exponential Backoff And Jitter" by Marc Brooker describes, and a budget
across calls, so that an outage is not answered with a multiple of the load.
"""

import random
import threading

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5


class RetryBudget:
    """What all calls together may spend on further tries.

    Args:
        reserve: tries that may follow each other without a success between them.
        ratio: tries that each successful call earns.
    """

    def __init__(self, reserve: float = 50.0, ratio: float = 0.2) -> None:
        self._reserve = reserve
        self._ratio = ratio
        self._balance = reserve
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A call succeeded."""
        with self._lock:
            self._balance = min(self._reserve, self._balance + self._ratio)

    def spend(self) -> bool:
        """Whether another try may be made; if so, it is paid for."""
        with self._lock:
            if self._balance < 1.0:
                return False
            self._balance -= 1.0
            return True


def pause(tries: int) -> float:
    """Seconds before the next try, after that many."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))
    return random.uniform(0.0, longest)  # noqa: S311 - not a secret
