"""Derive the hashed locks beside this file from the Pipfile: `make lock`.

`uv pip compile` does the resolving and does not read a Pipfile, so the sets are handed to it
as requirement lines. One universal resolution over all sets comes first; the
smaller locks are constrained to it, so that a package has one version everywhere.
"""

import hashlib
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
PIPFILE = HERE.parent / "Pipfile"
OVERRIDES = HERE / "overrides.txt"
OLDEST_PYTHON = "3.11"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
"""Platforms, in uv's names, on which every lock must install from wheels alone."""

SETS: Mapping[str, tuple[str, ...]] = {
    "test": ("packages", "model", "dev-packages"),
    "gateway": ("packages",),
    "model": ("model",),
}
"""Lock name to the Pipfile sections it holds. The first is the widest and constrains the others."""


def requirement_lines(sections: tuple[str, ...]) -> list[str]:
    """The sections' requirements in PEP 508 form, sorted, without repeats."""
    pipfile = tomllib.loads(PIPFILE.read_text())
    lines = set()
    for section in sections:
        for name, wanted in pipfile[section].items():
            if isinstance(wanted, str):
                lines.add(f"{name}{wanted}")
            else:
                lines.add(f"{name}{wanted['version']} ; {wanted['markers']}")
    return sorted(lines)


def header(name: str) -> str:
    """The lock's first line, which changes when the Pipfile's part or the overrides do."""
    declared = "\n".join([*requirement_lines(SETS[name]), OVERRIDES.read_text()])
    digest = hashlib.sha256(declared.encode()).hexdigest()
    return f"# made by `make lock` from the Pipfile, sections {', '.join(SETS[name])}: {digest}\n"


def lock_path(name: str) -> Path:
    """Where the lock of that name stands."""
    return HERE / f"{name}.txt"


def compile_lock(name: str, arguments: list[str], output: Path | None) -> None:
    """Run `uv pip compile` over the named set; uv's own message is the error's text."""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as requirements:
        requirements.write("\n".join(requirement_lines(SETS[name])) + "\n")
        requirements.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config"]
        command += ["--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
        command += ["--override", str(OVERRIDES), *arguments, requirements.name]
        if output is not None:
            command += ["--output-file", str(output)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write_locks(upgrade: bool) -> None:
    """Write every lock, keeping the versions already locked unless `upgrade`."""
    widest = next(iter(SETS))
    for name in SETS:
        arguments = ["--universal", "--python-version", OLDEST_PYTHON]
        if name != widest:
            arguments += ["--constraint", str(lock_path(widest))]
        if upgrade:
            arguments += ["--upgrade"]
        print(f"locking {name}", flush=True)
        compile_lock(name, arguments, lock_path(name))
        lock_path(name).write_text(header(name) + lock_path(name).read_text())


def check_wheels() -> None:
    """Resolve each lock's set again on every Python and platform, from wheels alone."""
    for name in SETS:
        for python in PYTHONS:
            for platform in PLATFORMS:
                print(f"checking wheels: {name}, Python {python}, {platform}", flush=True)
                arguments = ["--python-version", python, "--python-platform", platform]
                arguments += ["--only-binary", ":all:", "--constraint", str(lock_path(name))]
                compile_lock(name, arguments, None)


if __name__ == "__main__":
    write_locks(upgrade="--upgrade" in sys.argv[1:])
    check_wheels()
