"""TensorFlow Serving's tables of errors, REST texts, flags and metrics, as rows that tests ask for.

`tests/data/serving_reference.json` is transcribed from the reference and read by tests only, so the
product cannot agree with itself. A test that exercises a row names it, by its id, as a literal:
`row("errors.unknown-model").check(code, message, NAME="nobody")`. Which rows are exercised is read
from the tests' source by `exercised()`.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
DATA = TESTS / "data" / "serving_reference.json"
OWN_TEST = "test_serving_reference.py"
GAP = re.compile(r"\.{2,3}|\{\.\.\}")
"""What the reference writes where it leaves something out."""


@dataclass(frozen=True)
class Row:
    """One row of the reference.

    `grpc_code` and `text` are gRPC's, `rest_code` and `rest_text` REST's; `match` says whether the
    reference has the whole text or a part of it. Words in capitals stand for values.
    """

    id: str
    section: str
    case: str
    grpc_code: str | None
    text: str | None
    match: str | None
    rest_code: int | None
    rest_text: str | None
    marks: tuple[str, ...]
    unconfirmed: bool
    note: str | None
    more: dict[str, Any]

    def check(self, code: str, message: str, **values: object) -> None:
        """Assert gRPC's code and text, `values` put in where the text names them."""
        assert code == self.grpc_code, f"{self.id}: {code}: {message}"
        assert self.text is not None, f"{self.id} has no gRPC text"
        self._check_text(self.text, message, values)

    def check_rest(self, code: int, message: str, **values: object) -> None:
        """Assert REST's status and text, `values` put in where the text names them."""
        assert code == self.rest_code, f"{self.id}: {code}: {message}"
        assert self.rest_text is not None, f"{self.id} has no REST text"
        self._check_text(self.rest_text, message, values)

    def check_text(self, message: str, **values: object) -> None:
        """Assert the text alone: for a log line, or an error that ends the start."""
        text = self.text if self.text is not None else self.rest_text
        assert text is not None, f"{self.id} has no text"
        self._check_text(text, message, values)

    def _check_text(self, text: str, message: str, values: dict[str, object]) -> None:
        expected = _filled(text, values)
        if self.match == "whole":
            assert message == expected, self.id
            return
        position = 0
        for part in GAP.split(expected):
            found = message.find(part, position)
            assert found >= 0, f"{self.id}: no {part!r} in {message!r}"
            position = found + len(part)


def _filled(text: str, values: dict[str, object]) -> str:
    """The text with each named value put in, all at once, each at every place."""
    for name in values:
        assert name in text, f"{text!r} does not name {name}"
    if not values:
        return text
    names = "|".join(re.escape(name) for name in sorted(values, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{names})(?!\w)", lambda found: str(values[found.group()]), text)


@cache
def rows() -> dict[str, Row]:
    """Every row of the reference by its id."""
    fields = set(Row.__dataclass_fields__) - {"more"}
    return {
        entry["id"]: Row(
            **{key: entry[key] for key in fields - {"marks"}},
            marks=tuple(entry["marks"]),
            more={key: value for key, value in entry.items() if key not in fields},
        )
        for entry in json.loads(DATA.read_text(encoding="utf-8"))
    }


def row(row_id: str) -> Row:
    """The row of this id."""
    return rows()[row_id]


def section(name: str) -> Iterator[Row]:
    """The rows of one section: grpc, errors, rest, config, metrics, batching, warmup, flags."""
    return (entry for entry in rows().values() if entry.section == name)


def exercised() -> dict[str, set[str]]:
    """Ids of rows that stand as literals in test files, with the files' names.

    The test of this module names rows without exercising them, so it does not count.
    """
    found: dict[str, set[str]] = {}
    for path in sorted(set(TESTS.rglob("test_*.py")) - set(TESTS.rglob(OWN_TEST))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in rows():
                found.setdefault(str(node.value), set()).add(path.name)
    return found
