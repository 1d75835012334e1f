"""Which tests show which rows of the list of hostile cases, as pytest itself collects them.

`python -m tests.support.case_collector` prints a line for each group. As a plugin of pytest this
module prints what was collected, as one line of JSON.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
MARK = "cases: "
MARKING = ("mark.case(", "tests.support.cases import")
"""What a file has that marks tests with cases."""


def pytest_collection_finish(session: pytest.Session) -> None:
    shown: dict[str, list[str]] = {}
    for item in session.items:
        for marker in item.iter_markers("case"):
            for case in marker.args:
                shown.setdefault(case, []).append(item.nodeid)
    print(MARK + json.dumps(shown))


def collect() -> dict[str, list[str]]:
    """The tests that show each case."""
    paths = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if _marks(path)]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", __spec__.name]
    ran = subprocess.run(
        [*command, *map(str, paths)], cwd=ROOT, check=False, capture_output=True, text=True
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith(MARK)]
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(lines) == 1, ran.stdout
    found: dict[str, list[str]] = json.loads(lines[0].removeprefix(MARK))
    return found


def _marks(path: Path) -> bool:
    text = path.read_text()
    return any(each in text for each in MARKING)


def read(name: str) -> dict[str, str]:
    """One of the data files: a text for each case."""
    document: Any = json.loads((DATA / name).read_text())
    assert isinstance(document, dict)
    return document


def told(shown: Mapping[str, list[str]]) -> list[str]:
    """A line for each group: its rows, how many are shown, and by how many tests."""
    lines = []
    for group in sorted({case[0] for case in read("hostile_cases.json")}):
        rows = [case for case in read("hostile_cases.json") if case[0] == group]
        tests = {test for case in rows for test in shown.get(case, [])}
        count = sum(case in shown for case in rows)
        lines.append(f"{group}: {len(rows)} rows, {count} shown, by {len(tests)} tests")
    return lines


if __name__ == "__main__":
    print(*told(collect()), sep="\n")
