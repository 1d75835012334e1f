"""A sample of the guards of who may call, taken out one by one: the rows for it fail.

`python -m tests.support.access_guards` tries all of them, which takes minutes.
"""

import pytest

from tests.support import guards
from tests.support.access_guards import GUARDS


@pytest.mark.parametrize("name", ["one key", "keys before bodies", "rates over processes"])
def test_without_a_guard_its_rows_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "GUARDS", GUARDS)
    failed, ran = guards.rows_that_fail(name)
    assert 0 < failed <= ran
