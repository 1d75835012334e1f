"""Every row of the list of hostile cases is shown by a test, or says why it is not.

The rows of groups A to F are counted; their own words are in tests/data/hostile_cases.json.
"""

import pytest

from tests.support.case_collector import collect, read

GROUPS = {"A": 36, "B": 19, "C": 21, "D": 11, "E": 14, "F": 21}
CASES = read("hostile_cases.json")
NOT_RUN = read("hostile_cases_not_run.json")


@pytest.fixture(scope="module")
def shown() -> dict[str, list[str]]:
    return collect()


def test_the_list_has_every_row() -> None:
    rows = {f"{group}{number}" for group, most in GROUPS.items() for number in range(1, most + 1)}
    assert CASES.keys() == rows


def test_every_row_is_shown_or_says_why_it_is_not(shown: dict[str, list[str]]) -> None:
    assert shown.keys() <= CASES.keys()
    missing = CASES.keys() - shown.keys() - NOT_RUN.keys()
    assert not missing, [f"{case}: {CASES[case]}" for case in sorted(missing)]


def test_no_row_that_is_shown_is_said_not_to_be(shown: dict[str, list[str]]) -> None:
    assert NOT_RUN.keys() <= CASES.keys()
    assert not NOT_RUN.keys() & shown.keys()
    assert all(NOT_RUN.values())
