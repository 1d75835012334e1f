"""Which directories are versions, and which of them are served."""

import logging
from pathlib import Path
from typing import Any

import pytest
from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2

from model.server.errors import ServingError
from model.server.versions import find_versions, version_number
from tests.support.serving_reference import row

Policy = source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy


def found(base: Path, policy: Any = None) -> dict[int, str]:
    return find_versions("hat", str(base), policy or Policy())


def base_with(base: Path, *names: str) -> Path:
    for name in names:
        (base / name).mkdir()
    return base


def test_names_that_are_int64_numbers_are_versions() -> None:
    assert row("config.version-directory")
    assert version_number("00000123") == 123
    assert version_number("9223372036854775807") == 2**63 - 1
    for name in (
        "9223372036854775808",
        "1.5",
        "v1",
        "1a",
        "",
        "0x1",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "1_0",
    ):
        assert version_number(name) is None


def test_the_latest_version_is_served_unless_told_otherwise(tmp_path: Path) -> None:
    base = base_with(tmp_path, "1", "9", "10", "notes")
    assert row("config.policy-latest").more["default"] == 1
    assert found(base) == {10: f"{base}/10"}
    assert set(found(base, Policy(latest={"num_versions": 2}))) == {9, 10}


def test_all_versions_are_served_where_asked(tmp_path: Path) -> None:
    assert row("config.policy-all")
    assert set(found(base_with(tmp_path, "1", "2", "x"), Policy(all={}))) == {1, 2}


def test_specific_versions_are_served_and_missing_ones_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert row("config.policy-specific")
    policy = Policy(specific={"versions": [1, 3]})
    assert set(found(base_with(tmp_path, "0001", "2"), policy)) == {1}
    assert "Version 3 of servable hat" in caplog.text


def test_two_directories_of_one_version_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert row("config.duplicate-version")
    base = base_with(tmp_path, "1", "01")
    assert found(base) == {1: f"{base}/1"}
    assert "Version 1 will be loaded from 1, 01 will be ignored." in caplog.text


def test_no_version_at_all_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert found(base_with(tmp_path, "v1")) == {}
    row("config.no-versions").check_text(caplog.messages[0], X="hat", P=tmp_path)


def test_a_base_path_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError) as caught:
        found(tmp_path / "gone")
    error = caught.value
    expected = row("errors.base-path-missing")
    expected.check(error.code.name, error.message, P=tmp_path / "gone", NAME="hat")
