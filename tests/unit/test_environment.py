"""What `make` says on a machine that cannot make the environments."""

import fcntl
import io
import os
import sys
import threading
import time
from pathlib import Path
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


SECONDS = 20.0


class Printed(io.StringIO):
    """Standard output that tells when something was printed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = threading.Event()

    def flush(self) -> None:
        self.flushed.set()


@pytest.mark.parametrize(("other_succeeds", "made"), [(True, []), (False, ["gateway"])])
def test_an_environment_that_another_make_is_at_is_waited_for_and_made_once(
    other_succeeds: bool, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_here: list[str] = []
    printed = Printed()
    monkeypatch.setattr(environment, "ENVIRONMENTS", str(tmp_path))
    monkeypatch.setattr(environment, "make", made_here.append)
    monkeypatch.setattr(sys, "stdout", printed)
    stamp = Path(environment.stamp_of("gateway"))
    stamp.parent.mkdir()
    stamp.touch()
    os.utime(stamp, (0, 0))
    waiting = threading.Thread(target=environment.make_alone, args=("gateway",))
    with (tmp_path / "gateway.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting.start()
        assert printed.flushed.wait(SECONDS)
        assert printed.getvalue() == (
            "tensorgate: waiting for another make that makes .venv/gateway\n"
        )
        assert not made_here
        if other_succeeds:
            later = time.time() + 1  # a file's time may lag behind the clock
            os.utime(stamp, (later, later))
    waiting.join(SECONDS)
    assert not waiting.is_alive()
    assert made_here == made
