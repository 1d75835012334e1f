"""The images and docker-compose.yml, on a real Docker engine.

SERVING_IMAGE names the base of the model's image; a name that ends in `:test` is built here from
the embedded model server, for machines that cannot pull the official one.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from model.clothing.pictures import sample_picture

ROOT = Path(__file__).parents[2]
START_SECONDS = 240.0
ANSWER_SECONDS = 60.0
MIB = 1024 * 1024
ABOVE_BASE = 150 * MIB
LABELS = [
    "dress",
    "hat",
    "longsleeve",
    "outwear",
    "pants",
    "shirt",
    "shoes",
    "shorts",
    "skirt",
    "t-shirt",
]
pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


PORTS = {"GATEWAY_PORT": free_port(), "METRICS_PORT": free_port()}
ENVIRONMENT = {**os.environ, **PORTS}
GATEWAY = f"http://127.0.0.1:{PORTS['GATEWAY_PORT']}"


def docker(*arguments: str, timeout: float = 900.0) -> str:
    finished = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert finished.returncode == 0, f"docker {' '.join(arguments)}\n{finished.stderr[-4000:]}"
    return finished.stdout.strip()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def predict(**arguments: Any) -> requests.Response:
    return requests.post(f"{GATEWAY}/predict", timeout=30, **arguments)


@pytest.fixture(scope="module")
def engine() -> None:
    reachable = (
        shutil.which("docker")
        and not subprocess.run(["docker", "version"], capture_output=True, check=False).returncode
    )
    if not reachable:
        pytest.skip("no Docker engine answers `docker version`")
    if os.environ.get("SERVING_IMAGE", "").endswith(":test"):
        image = os.environ["SERVING_IMAGE"]
        network = os.environ.get("BUILD_NETWORK", "default")
        path = "model/server/dockerfile"
        docker("build", "-q", "--network", network, "-f", path, "-t", image, ".")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One drawn picture of pants."""
    folder = tmp_path_factory.mktemp("samples")
    folder.chmod(0o755)
    path = folder / "pants.jpg"
    path.write_bytes(sample_picture("pants", 3))
    path.chmod(0o644)
    return path


@pytest.fixture(scope="module")
def stack(engine: None, sample: Path) -> Iterator[str]:
    """Compose up, with a picture server beside it; gives the picture's URL."""
    base = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
    docker("compose", "up", "--build", "--detach", "--wait", "--wait-timeout", "300")
    try:
        pictures = docker(
            *("run", "--detach", "--rm", "--network", "tensorgate_default"),
            *("--volume", f"{sample.parent}:/pictures:ro", "--user", "10001"),
            *(base, "python3", "-m", "http.server", "--directory", "/pictures", "80"),
        )
        try:
            form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
            address = docker("inspect", "--format", form, pictures)
            yield f"http://{address}/pants.jpg"
        finally:
            docker("kill", pictures)
    finally:
        if os.environ.get("CI"):
            print(docker("compose", "logs", "--no-color", "--tail", "100"))
        docker("compose", "down", "--volumes")


def allow_pictures_from(url: str) -> None:
    """Start the gateway again with the picture server's address allowed."""
    environment = {**ENVIRONMENT, "ALLOWED_NETWORKS": url.split("/")[2] + "/32"}
    subprocess.run(
        ["docker", "compose", "up", "--detach", "--wait", "gateway"],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )


def test_compose_predicts_uploads_and_urls(stack: str, sample: Path) -> None:
    body = sample.read_bytes()
    raw = predict(data=body, headers={"Content-Type": "image/jpeg"})
    assert raw.status_code == 200, raw.text
    assert list(raw.json()) == LABELS
    assert max(raw.json(), key=raw.json().get) == "pants"
    assert predict(files={"file": body}).json() == raw.json()
    assert predict(json={"image": base64.b64encode(body).decode()}).json() == raw.json()

    refused = predict(json={"url": stack})
    assert (refused.status_code, refused.headers["Content-Type"]) == (
        422,
        "application/problem+json",
    )
    allow_pictures_from(stack)
    fetched = predict(json={"url": stack})
    assert fetched.status_code == 200, fetched.text
    assert fetched.json() == raw.json()
    assert fetched.headers["X-Model-Version"] == "1"


def test_a_stopped_model_server_gives_503_and_a_started_one_200(stack: str, sample: Path) -> None:
    body = sample.read_bytes()

    def status() -> int:
        return predict(data=body, headers={"Content-Type": "image/jpeg"}).status_code

    docker("compose", "stop", "--timeout", "5", "clothing-model")
    wait_until(lambda: status() == 503, ANSWER_SECONDS, "503 while the model server is stopped")
    answer = predict(data=body, headers={"Content-Type": "image/jpeg"})
    assert answer.headers["Retry-After"].isdigit()
    assert requests.get(f"{GATEWAY}/readyz", timeout=10).status_code == 200
    docker("compose", "start", "clothing-model")
    wait_until(lambda: status() == 200, START_SECONDS, "200 once it is started again")


@pytest.mark.parametrize("service", ["gateway", "clothing-model"])
def test_containers_run_as_an_ordinary_user_on_a_read_only_root(stack: str, service: str) -> None:
    identity = docker("compose", "exec", "-T", service, "id", "-u")
    assert identity == "10001"
    container = docker("compose", "ps", "--quiet", service)
    host = json.loads(docker("inspect", container))[0]["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["Privileged"]
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])


def test_the_gateway_image_holds_no_tensorflow_and_little_else(stack: str) -> None:
    listing = docker(
        *("compose", "exec", "-T", "gateway"),
        *("sh", "-c", "ls /opt/gateway/lib/python3*/site-packages /opt/app"),
    )
    assert "grpc" in listing
    for name in ("tensorflow", "keras", "pytest", "tests", "pip"):
        assert name not in listing.split()
    for tool in ("gcc", "cc", "make"):
        finished = subprocess.run(
            ["docker", "compose", "exec", "-T", "gateway", "which", tool],
            cwd=ROOT,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        assert finished.returncode != 0, f"{tool} is in the image"


def test_the_gateway_image_is_small(stack: str) -> None:
    def size(image: str) -> int:
        return int(docker("image", "inspect", "--format", "{{.Size}}", image))

    base = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
    above = size("tensorgate-gateway:dev") - size(base)
    print(f"gateway image above its base: {above / MIB:.0f} MiB")
    assert above < ABOVE_BASE


def test_the_model_image_carries_its_version_and_its_contract(stack: str) -> None:
    path = "/models/clothing-model/1/assets.extra/contract.json"
    contract = docker("compose", "exec", "-T", "clothing-model", "cat", path)
    assert json.loads(contract)["labels"] == LABELS
    assert docker("image", "inspect", "--format", "{{.RepoTags}}", "clothing-model:1")


def test_an_unfit_contract_stops_the_image_build(engine: None, tmp_path: Path) -> None:
    network = os.environ.get("BUILD_NETWORK", "default")
    context = tmp_path / "context"
    shutil.copytree(ROOT / "dependencies", context / "dependencies")
    shutil.copytree(ROOT / "model", context / "model")
    contract = context / "model" / "clothing" / "contract.json"
    contract.write_text(contract.read_text().replace('"hat",', ""))
    finished = subprocess.run(
        [
            *("docker", "build", "--network", network, "--target", "export"),
            *("-f", str(ROOT / "serve.dockerfile"), str(context)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert finished.returncode != 0
    assert "the contract has 9 labels" in finished.stderr
