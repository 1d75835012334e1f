"""How often and how soon a call is tried again.

Full jitter under a cap, as "Exponential Backoff And Jitter" by Marc Brooker describes. The budget
of all workers (guards.py) keeps an outage from being answered with a multiple of the load.
"""

import itertools
import random
from collections.abc import Callable

from gateway.model_client.channel import Question
from gateway.model_client.failures import Unreachable
from gateway.model_client.guards import RetryBudget

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5


def jittered_pause(tries: int) -> float:
    """Seconds before the next try, after that many."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))
    return random.uniform(0.0, longest)  # noqa: S311 - not a secret


class Retries:
    """Repeats calls that met no server; the only layer that does.

    Args:
        max_retries: further tries of one call.
        budget: what all calls may spend on further tries.
        on_retry: hears the model's name before each of them.
        pause: seconds before the next try, after so many.
    """

    def __init__(
        self,
        max_retries: int,
        budget: RetryBudget,
        on_retry: Callable[[str], None],
        pause: Callable[[int], float] = jittered_pause,
    ) -> None:
        self._max_retries = max_retries
        self._on_retry = on_retry
        self._pause = pause
        self._budget = budget

    def run(self, attempt: Callable[[Question], bytes], question: Question) -> bytes:
        """The first answer.

        Raises:
            Unreachable: the last try's, once tries, time or the budget are used up.
            GatewayError: any other failure, at once.
        """
        for tries in itertools.count(1):
            try:
                answer = attempt(question)
            except Unreachable:
                seconds = self._pause(tries)
                late = seconds >= question.deadline.remaining()
                if tries > self._max_retries or late or not self._budget.spend():
                    raise
            else:
                self._budget.earn()
                return answer
            self._on_retry(question.spec.name)
            question.cancelled.wait(seconds)
        raise AssertionError("itertools.count ends")
