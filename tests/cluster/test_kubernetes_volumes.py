"""Versions that arrive on a volume: exported onto it, found by polling, taken back again."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.support.cluster import OVERLAY, ROOT, Cluster, kubectl
from tests.support.cluster_images import MAKE_SECOND, MODEL, SECOND, SECOND_LABELS
from tests.support.load import ENOUGH, Load
from tests.support.load_client import Request
from tests.support.predictions import answered_by, finish, predict, versions_seen
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.node, pytest.mark.timeout(600)]

ON_VOLUME = ROOT / "tests" / "cluster" / "volume"
VOLUME = Path("/var/lib/tensorgate-models")
HOME = VOLUME / MODEL


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with versions 1 and 2, the second with another contract."""
    folder = tmp_path_factory.mktemp("exported")
    source, contract = folder / "second.keras", folder / "second.json"
    contract.write_text(json.dumps(SECOND))
    for command in (
        ["-c", MAKE_SECOND, str(source)],
        ["-m", "model.clothing.export", "--output", str(folder), "--version", "1"],
        [
            *("-m", "model", "export", str(source), "--contract", str(contract)),
            *("--name", MODEL, "--output", str(folder), "--version", "2"),
        ],
    ):
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return folder / MODEL


def publish(version: Path, number: int) -> None:
    """Put a version on the volume: whole, or not there."""
    unfinished = HOME / f".{number}"
    shutil.copytree(version, unfinished)
    unfinished.rename(HOME / str(number))


def withdraw(number: int) -> None:
    """Take a version back."""
    gone = (HOME / str(number)).rename(HOME / f".gone-{number}")
    shutil.rmtree(gone)


@pytest.fixture(scope="module")
def on_volume(deployed: Cluster, exported: Path) -> Iterator[Cluster]:
    """The model from a volume, with version 1 on it."""
    shutil.rmtree(VOLUME, ignore_errors=True)
    HOME.mkdir(parents=True)
    publish(exported / "1", 1)
    deployed.apply(ON_VOLUME)
    deployed.one_of_each()
    yield deployed
    deployed.apply(OVERLAY)
    deployed.rolled_out("model")
    kubectl("delete", "--namespace", "tensorgate", "persistentvolumeclaim/models")
    kubectl("delete", "persistentvolume/models")
    shutil.rmtree(VOLUME)


def test_a_version_comes_and_goes_on_a_volume_and_nothing_is_lost_or_mixed(
    on_volume: Cluster, exported: Path, load: Callable[[], Load], request_: Request
) -> None:
    first = predict(request_)
    with load() as running:
        running.wait_for(200)
        publish(exported / "2", 2)
        wait_until(answered_by(request_, "2"), 60.0, "an answer of version 2")
        second = predict(request_)
        running.wait_for(len(running.answers) + 500)
        withdraw(2)
        wait_until(answered_by(request_, "1"), 60.0, "an answer of version 1 again")
        running.wait_for(max(ENOUGH, len(running.answers) + 200))
    assert not finish(running).lost
    assert list(second.json()) == SECOND_LABELS
    right = {"1": first.content, "2": second.content}
    assert set(versions_seen(running, right)) == {"1", "2"}


def test_a_damaged_version_on_a_volume_changes_nothing_and_is_told(
    on_volume: Cluster, exported: Path, request_: Request, tmp_path: Path
) -> None:
    damaged = tmp_path / "3"
    shutil.copytree(exported / "1", damaged)
    (damaged / "variables" / "variables.data-00000-of-00001").write_bytes(b"cut off")
    (pod,) = on_volume.ready("model")
    publish(damaged, 3)
    wait_until(
        lambda: "version: 3} failed" in on_volume.logs(pod), 60.0, "the reason in the pod's log"
    )
    host, port = request_.address

    def states() -> dict[int, str]:
        (model,) = requests.get(f"http://{host}:{port}/models", timeout=30).json()["models"]
        return {each["version"]: each["state"] for each in model["versions"]}

    wait_until(lambda: 3 in states(), 30.0, "version 3 in /models")
    assert states()[1] == "AVAILABLE"
    assert states()[3] != "AVAILABLE"
    assert predict(request_).headers["X-Model-Version"] == "1"
    withdraw(3)
