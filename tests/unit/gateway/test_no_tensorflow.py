"""The gateway's own environment runs every module of the gateway, and has no TensorFlow."""

import ast
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from gateway.__main__ import PACKAGES

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv" / "gateway" / "bin" / "python"

PROGRAM = """
import importlib, importlib.metadata, json, pkgutil, sys
import gateway
found = pkgutil.walk_packages(gateway.__path__, "gateway.")
names = [module.name for module in found if not module.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
distributions = sorted({item.name.lower() for item in importlib.metadata.distributions()})
roots = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"imported": names, "roots": roots, "distributions": distributions}))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, list[str]]:
    if not PYTHON.exists():
        pytest.skip("the gateway's environment has not been made: make test")
    done = subprocess.run(
        [PYTHON, "-W", "error", "-c", PROGRAM],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_every_module_of_the_gateway_is_imported(seen: dict[str, list[str]]) -> None:
    files = (ROOT / "gateway").rglob("*.py")
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    packages = {name.removesuffix(".__init__") for name in modules}
    assert set(seen["imported"]) == packages - {"gateway", "gateway.__main__"}


def test_the_start_looks_for_every_package_that_is_imported() -> None:
    imported = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    roots = {name.partition(".")[0] for name in imported}
    assert roots - sys.stdlib_module_names - {"gateway", "grpc_tools"} == set(PACKAGES)


def test_the_gateway_imports_no_tensorflow(seen: dict[str, list[str]]) -> None:
    assert [root for root in seen["roots"] if "tensorflow" in root or "keras" in root] == []
    assert "grpc" in seen["roots"]


def test_tensorflow_is_not_installed_beside_the_gateway(seen: dict[str, list[str]]) -> None:
    heavy = ("tensorflow", "keras", "grpcio-tools", "ml-dtypes", "ml_dtypes")
    assert [name for name in seen["distributions"] if name.startswith(heavy)] == []
    assert {"grpcio", "protobuf"} <= set(seen["distributions"])


def test_tensorflow_is_installed_here_so_that_the_test_could_fail() -> None:
    try:
        assert version("tensorflow-cpu")
    except PackageNotFoundError:
        assert version("tensorflow")
