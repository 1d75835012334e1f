"""How often the source looks for versions."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.server.config import single_model
from model.server.source import VersionSource
from tests.support.serving_reference import row

SECONDS = 10.0


class Wishes(list[tuple[str, set[int]]]):
    """What was wanted, in order; `enough` is set after three wishes."""

    def __init__(self) -> None:
        super().__init__()
        self.enough = threading.Event()

    def __call__(self, name: str, versions: Mapping[int, str]) -> None:
        self.append((name, set(versions)))
        if len(self) >= 3:
            self.enough.set()


def models_of(name: str, base: Path) -> Any:
    return single_model(name, str(base)).model_config_list.config


def is_looking() -> bool:
    return any(thread.name == "source" for thread in threading.enumerate())


def test_it_looks_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    wishes = Wishes()
    source = VersionSource(wishes, 0.01)
    source.start()
    source.watch(models_of("hat", tmp_path))
    assert wishes.enough.wait(SECONDS)
    source.stop()
    assert set(map(str, wishes)) == {"('hat', {1})"}
    assert not is_looking()


def test_at_0_it_looks_once_for_each_configuration(tmp_path: Path) -> None:
    assert row("flags.poll-once")
    (tmp_path / "1").mkdir()
    wishes = Wishes()
    source = VersionSource(wishes, 0)
    source.start()
    source.watch(models_of("hat", tmp_path))
    assert wishes == [("hat", {1})]
    source.stop()
    assert not is_looking()


def test_below_0_it_never_looks(tmp_path: Path) -> None:
    assert row("flags.poll-never")
    wishes = Wishes()
    source = VersionSource(wishes, -1)
    source.start()
    source.watch(models_of("hat", tmp_path))
    source.stop()
    assert wishes == []


def test_a_model_that_is_not_configured_any_more_is_wanted_no_more(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    wishes = Wishes()
    source = VersionSource(wishes, 0)
    source.watch(models_of("hat", tmp_path))
    source.watch(models_of("shoe", tmp_path))
    assert wishes == [("hat", {1}), ("hat", set()), ("shoe", {1})]


def test_a_base_path_that_cannot_be_read_does_not_hide_the_other_models(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    wishes = Wishes()
    models = [*models_of("gone", tmp_path / "gone"), *models_of("hat", tmp_path)]
    VersionSource(wishes, 0).watch(models)
    assert wishes == [("hat", {1})]
