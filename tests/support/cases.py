"""Rows of a table of hostile cases, each marked with the case that its name begins with."""

import re
from collections.abc import Mapping

import pytest

CASE = re.compile(r"[A-I][0-9]+(?= )")


def rows(table: Mapping[str, object]) -> list[object]:
    """Parameters for `parametrize`: `"A7 zero": value` is a row called so, marked `case("A7")`.

    A name without a case is a row of ours that the list does not have.
    """
    return [_row(name, value) for name, value in table.items()]


def _row(name: str, value: object) -> object:
    found = CASE.match(name)
    marks = (pytest.mark.case(found[0]),) if found else ()
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, id=name, marks=marks)
