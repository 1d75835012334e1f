"""The API server takes every overlay and component, custom resources included."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ROOT, kubectl

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

K8S = ROOT / "k8s"
OVERLAYS = sorted((K8S / "overlays").iterdir())
COMPONENTS = sorted((K8S / "components").iterdir())
DEFINITIONS = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/kedacore/keda/v2@v2.21.0": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
    "sigs.k8s.io/gateway-api@v1.6.0": (
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
}
"""Modules of Go that publish the custom resources' definitions, and which files these are."""


@pytest.fixture(scope="module")
def definitions() -> Iterator[None]:
    """The custom resources' definitions in the cluster."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed, by which the custom resources' definitions are fetched")
    files = []
    for module, names in DEFINITIONS.items():
        told = subprocess.run(
            ["go", "mod", "download", "-json", module], capture_output=True, text=True, check=True
        )
        files += [Path(json.loads(told.stdout)["Dir"]) / name for name in names]
    arguments = [f"--filename={file}" for file in files]
    kubectl("apply", "--server-side", *arguments)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *arguments)
    yield
    kubectl("delete", "--wait=false", *arguments)


def dry_run(kustomization: Path) -> list[str]:
    """What the API server would have done with each resource."""
    rendered = kubectl("kustomize", str(kustomization))
    finished = subprocess.run(
        ["kubectl", "apply", "--dry-run=server", "--filename=-"],
        input=rendered,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


@pytest.fixture(scope="module")
def namespace() -> None:
    """A dry run makes no namespace, and without one nothing can be tried in it."""
    kubectl("apply", f"--filename={K8S / 'base' / 'namespace.yaml'}")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: str(path.name))
def test_the_api_server_takes_an_overlay(namespace: None, overlay: Path) -> None:
    assert len(dry_run(overlay)) >= 5


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: str(path.name))
def test_the_api_server_takes_production_with_a_component(
    namespace: None, definitions: None, component: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "k8s"
    shutil.copytree(K8S, copy)
    production = copy / "overlays" / "production" / "kustomization.yaml"
    added = f"components:\n  - ../../components/{component.name}\n"
    production.write_text(production.read_text() + added)
    assert len(dry_run(production.parent)) >= 5
