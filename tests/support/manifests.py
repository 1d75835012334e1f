"""The manifests of k8s/, told apart by what their kustomizations call them, and read by tests."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
BASE = K8S / "base"
PRODUCTION = K8S / "overlays" / "production"
COMPONENTS = K8S / "components"

Document = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """A document of a file that a kustomization names as a resource, or as a patch like one."""

    path: Path
    document: Document

    @property
    def kind(self) -> str:
        return str(self.document["kind"])

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def spec(self) -> Document:
        return dict(self.document["spec"])

    @property
    def custom(self) -> bool:
        """Whether a cluster knows it only once somebody has installed its definition.

        Kubernetes' own groups, as far as we use them, have no dot or one word before `.k8s.io`.
        """
        group = self.document["apiVersion"].rpartition("/")[0]
        return re.fullmatch(r"[a-z]*(\.k8s\.io)?", group) is None

    def __str__(self) -> str:
        return f"{self.path.relative_to(K8S)}-{self.kind}-{self.name}"


def kustomizations() -> dict[Path, Document]:
    """Every kustomization, by its directory."""
    paths = sorted(K8S.rglob("kustomization.yaml"))
    return {path.parent: yaml.safe_load(path.read_text()) for path in paths}


def named_files(directory: Path, kustomization: Document) -> list[Path]:
    """The files that a kustomization is made of, generated ones' sources included."""
    names = [*kustomization.get("resources", []), *kustomization.get("components", [])]
    names += [patch["path"] for patch in kustomization.get("patches", [])]
    for generator in kustomization.get("configMapGenerator", []):
        names += [file.rpartition("=")[2] for file in generator["files"]]
    paths = [(directory / name).resolve() for name in names]
    return [path for path in paths if not path.is_dir()]


def resources(below: Path = K8S) -> list[Manifest]:
    """Every full resource of the kustomizations below a directory."""
    return [
        Manifest(directory / name, document)
        for directory, kustomization in kustomizations().items()
        for name in kustomization.get("resources", [])
        if directory.is_relative_to(below) and (directory / name).is_file()
        for document in yaml.safe_load_all((directory / name).read_text())
    ]


def merge_patches(below: Path = K8S) -> list[Manifest]:
    """Every patch that is written like the resource it changes."""
    return [Manifest(path, patch) for path, patch in _patches(below) if isinstance(patch, dict)]


def operations(below: Path = K8S) -> dict[Path, dict[str, Any]]:
    """Of every patch that is a list of operations (RFC 6902): its values, by their paths."""
    return {
        path: {operation["path"]: operation["value"] for operation in patch}
        for path, patch in _patches(below)
        if isinstance(patch, list)
    }


def _patches(below: Path) -> Iterator[tuple[Path, Any]]:
    for directory, kustomization in kustomizations().items():
        if directory.is_relative_to(below):
            for patch in kustomization.get("patches", []):
                path = directory / patch["path"]
                yield path, yaml.safe_load(path.read_text())


def the(kind: str, name: str, below: Path = K8S) -> Manifest:
    """The one resource of this kind and name."""
    (found,) = (each for each in resources(below) if (each.kind, each.name) == (kind, name))
    return found


def pod(manifest: Manifest) -> Document:
    """The pod that a Deployment makes: its spec."""
    return dict(manifest.spec["template"]["spec"])


def container(manifest: Manifest) -> Document:
    """A Deployment's one container."""
    (only,) = pod(manifest)["containers"]
    return dict(only)


def quantity(written: str) -> float:
    """A quantity of Kubernetes as a number: `1280Mi` is bytes, `2` and `500m` are CPUs."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", written).groups()  # type: ignore[union-attr]
    units = {"": 1.0, "m": 0.001, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
    return float(number) * units[unit]


def seconds(written: str) -> float:
    """A duration such as `30s`."""
    return float(written.removesuffix("s"))


def queries() -> list[tuple[str, str]]:
    """Every query of Prometheus, with the place it stands at: alerts, dashboards, triggers."""
    found = [
        (f"alert {rule['alert']}", rule["expr"])
        for each in resources()
        if each.kind == "PrometheusRule"
        for group in each.spec["groups"]
        for rule in group["rules"]
    ]
    found += [
        (f"trigger of {each.name}", trigger["metadata"]["query"])
        for each in resources()
        if each.kind == "ScaledObject"
        for trigger in each.spec["triggers"]
        if trigger["type"] == "prometheus"
    ]
    for path in COMPONENTS.rglob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            found += [(f"panel {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


@dataclass(frozen=True)
class Selection:
    """A metric that a query reads, with the labels it is chosen by and what they may be."""

    metric: str
    matchers: dict[str, str]


_SELECTION = re.compile(r"(?<![\w.])([a-zA-Z_:][\w:]*+)\s*+(?:\{([^}]*)\})?+(?!\()")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_OPERATORS = frozenset({"and", "or", "unless", "bool", "offset"})


def selections(query: str) -> list[Selection]:
    """What a query of Prometheus reads, and not its functions, labels or durations."""
    text = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", query))
    return [
        Selection(match[1], dict(_MATCHER.findall(match[2] or "")))
        for match in re.finditer(_SELECTION, text)
        if match[1] not in _OPERATORS
    ]
