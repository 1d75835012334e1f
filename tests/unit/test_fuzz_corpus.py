"""What generated inputs have reached, read again: tests/fuzz/run.py finds them, by `make fuzz`."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
FILES = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name} {path.name}")
def test_a_kept_input_is_read_or_refused(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_corpus_and_it_is_small() -> None:
    assert {path.parent.name for path in FILES} == TARGETS.keys()
    assert sum(path.stat().st_size for path in FILES) < 500_000
