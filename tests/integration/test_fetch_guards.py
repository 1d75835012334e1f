"""A sample of the guards, taken out one by one: the rows for it fail.

`python -m tests.support.guards` tries all of them, which takes minutes.
"""

import pytest

from tests.support.guards import rows_that_fail

SAMPLE = [
    "IPv6 special ranges",
    "the judged address dialed",
    "own calls known",
    "the floor",
    "the circuit",
]


@pytest.mark.parametrize("name", SAMPLE)
def test_without_a_guard_its_rows_fail(name: str) -> None:
    failed, ran = rows_that_fail(name)
    assert 0 < failed <= ran
