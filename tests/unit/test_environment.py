"""What `make` says on a machine that cannot make the environments."""

import sys
from typing import NamedTuple

import pytest

from dependencies import environment


class Version(NamedTuple):
    major: int
    minor: int


@pytest.mark.parametrize("version", [Version(3, 10), Version(3, 14), Version(2, 7)])
def test_another_python_is_refused_in_one_sentence(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as caught:
        environment.check_python()
    sentence = str(caught.value)
    assert f"this is Python {version.major}.{version.minor}" in sentence
    assert "needs Python 3.11, 3.12 or 3.13" in sentence
    assert "PYTHON=" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("version", [Version(3, 11), Version(3, 12), Version(3, 13)])
def test_supported_pythons_pass(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    environment.check_python()


@pytest.mark.parametrize("module", ["ensurepip", "venv"])
def test_a_missing_venv_module_is_said_in_one_sentence(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match=r"has no venv module: install it .*-venv"):
        environment.check_python()
