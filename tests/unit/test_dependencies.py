"""The Pipfile is the one place where dependencies are declared; the locks follow from it."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from dependencies.lock import header

ROOT = Path(__file__).parents[2]
PIPFILE = tomllib.loads((ROOT / "Pipfile").read_text())
SETS = {
    "gateway": ["packages"],
    "model": ["model"],
    "test": ["packages", "model", "dev-packages"],
}
ENVIRONMENTS = [
    {"python_version": version, "python_full_version": f"{version}.0"} | platform
    for version in ("3.11", "3.12", "3.13")
    for platform in (
        {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"},
        {"sys_platform": "linux", "platform_machine": "aarch64", "platform_system": "Linux"},
        {"sys_platform": "darwin", "platform_machine": "arm64", "platform_system": "Darwin"},
    )
]


def lock_text(name: str) -> str:
    return (ROOT / "dependencies" / f"{name}.txt").read_text()


def locked(name: str, environment: dict[str, str]) -> dict[str, Version]:
    """Package to version, of the lines whose markers hold in the environment."""
    joined = lock_text(name).replace("\\\n", " ")
    requirements = [
        Requirement(line.split("--hash")[0]) for line in joined.splitlines() if "==" in line
    ]
    return {
        canonicalize_name(each.name): Version(str(each.specifier).removeprefix("=="))
        for each in requirements
        if each.marker is None or each.marker.evaluate(environment)
    }


def declared(name: str, environment: dict[str, str]) -> list[Requirement]:
    """The Pipfile's requirements of a set, of those whose markers hold."""
    requirements = []
    for section in SETS[name]:
        for package, wanted in PIPFILE[section].items():
            table = {"version": wanted} if isinstance(wanted, str) else wanted
            marker = f" ; {table['markers']}" if "markers" in table else ""
            requirements.append(Requirement(f"{package}{table['version']}{marker}"))
    return [each for each in requirements if not each.marker or each.marker.evaluate(environment)]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: "-".join(e.values())[:20])
def test_every_declared_package_is_locked_within_its_bounds(
    name: str, environment: dict[str, str]
) -> None:
    versions = locked(name, environment)
    for requirement in declared(name, environment):
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in {name}.txt: run `make lock`"
        assert requirement.specifier.contains(version), f"{name}.txt has {version}: `make lock`"


def test_every_package_has_one_version_in_all_locks() -> None:
    for environment in ENVIRONMENTS:
        everything = locked("test", environment)
        for name in ("gateway", "model"):
            assert locked(name, environment).items() <= everything.items()


@pytest.mark.parametrize("name", SETS)
def test_a_lock_says_that_it_was_made_from_this_pipfile(name: str) -> None:
    assert lock_text(name).startswith(header(name)), "the Pipfile changed: run `make lock`"


@pytest.mark.parametrize("name", SETS)
def test_every_locked_package_has_hashes(name: str) -> None:
    blocks = re.split(r"\n(?=\S)", lock_text(name).strip())[1:]
    assert blocks
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_there_is_no_tensorflow_in_the_gateway_lock() -> None:
    assert not [line for line in lock_text("gateway").splitlines() if "tensorflow" in line]
    assert not [package for package in PIPFILE["packages"] if "tensorflow" in package]


def test_one_tensorflow_is_locked_on_every_platform() -> None:
    for environment in ENVIRONMENTS:
        names = {"tensorflow", "tensorflow-cpu"} & locked("model", environment).keys()
        assert len(names) == 1, environment


def test_nothing_that_git_keeps_about_dependencies_holds_an_address() -> None:
    assert "source" not in PIPFILE
    paths = [ROOT / "Pipfile", *(ROOT / "dependencies").glob("*.txt")]
    for path in paths:
        assert "://" not in path.read_text(), path
        assert "--index" not in path.read_text(), path


def test_the_lock_that_pipenv_writes_stays_out_of_git() -> None:
    command = ["git", "check-ignore", "--quiet", "Pipfile.lock"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
