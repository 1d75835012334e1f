"""What images, compose and manifests set, held to what the code knows."""

import dataclasses
import re
from pathlib import Path

import yaml

from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
KNOWN = {field.name.upper() for field in dataclasses.fields(Settings)}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_sets_only_what_the_gateway_knows() -> None:
    assert COMPOSE["services"]["gateway"]["environment"].keys() <= KNOWN


def test_the_page_has_every_variable_that_compose_reads_with_its_default() -> None:
    read = re.findall(r"\$\{([A-Z_]+):-(.*?)\}", (ROOT / "docker-compose.yml").read_text())
    page = (ROOT / "docs" / "containers.md").read_text()
    written = re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)? ?\| ", page, re.MULTILINE)
    assert set(written) == set(read)


def test_the_image_sets_only_what_the_gateway_or_python_knows() -> None:
    text = (ROOT / "gateway.dockerfile").read_text()
    names = re.findall(r"\b([A-Z_]+)=", "".join(re.findall(r"^ENV (.*)$", text, re.MULTILINE)))
    assert "BIND" in names
    assert {name for name in names if not name.startswith("PYTHON")} <= KNOWN


def test_private_addresses_are_let_in_by_nobody_but_who_runs_it() -> None:
    environment = COMPOSE["services"]["gateway"]["environment"]
    assert environment["ALLOWED_NETWORKS"] == "${ALLOWED_NETWORKS:-}"
    production = [ROOT / "gateway.dockerfile", ROOT / "serve.dockerfile"]
    production += (ROOT / "k8s").rglob("*.yaml")
    for path in production:
        assert "ALLOWED_NETWORKS" not in path.read_text(), path


def test_no_image_is_taken_by_a_tag_that_moves() -> None:
    for path in [*ROOT.glob("*.dockerfile"), ROOT / "docker-compose.yml"]:
        assert ":latest" not in path.read_text(), path
