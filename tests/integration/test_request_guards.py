"""A sample of the guards of requests and pictures, taken out one by one: the rows for it fail.

`python -m tests.support.guards` tries all of them, which takes minutes.
"""

import pytest

from tests.support.guards import rows_that_fail

SAMPLE = ["few pixels", "one reading of JSON", "one host"]


@pytest.mark.parametrize("name", SAMPLE)
def test_without_a_guard_its_rows_fail(name: str) -> None:
    failed, ran = rows_that_fail(name)
    assert 0 < failed <= ran
