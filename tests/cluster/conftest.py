"""What the tests on a cluster share: the overlay applied, its capacity, a load on it."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from model.clothing.pictures import sample_picture
from tests.support.cluster import NODE_PORT, Cluster, on_the_node
from tests.support.load import Load, measure_capacity
from tests.support.load_client import Request
from tests.support.picture_namespace import picture_host
from tests.support.predictions import takes_connections
from tests.support.waiting import wait_until

SHARE = 0.5
"""Of what one pod of each can do, what a load asks for."""

DEADLINE = 10.0

SOURCES = (f"127.0.1.{number}" for number in range(1, 255))
"""Where loads come from, each from an address of its own. For a minute or two the kernel leads a
connection from the same address and port where it led the last one, to a pod that is gone too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--repeats 10` runs the tests under load ten times, and only them: `make cluster-soak`."""
    parser.addoption("--repeats", type=int, default=1, help="how often the tests under load run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat what runs under load."""
    repeats: int = metafunc.config.getoption("--repeats")
    if repeats > 1 and "load" in metafunc.fixturenames:
        metafunc.fixturenames.append("repeat")
        metafunc.parametrize("repeat", range(1, repeats + 1))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """When tests are repeated, leave out those that are not."""
    if config.getoption("--repeats") > 1:
        repeated = [item for item in items if "load" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in repeated])
        items[:] = repeated


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What needs a cluster, or root on its node, is skipped where there is none."""
    if item.get_closest_marker("kubernetes") and not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    if item.get_closest_marker("node") and not (os.geteuid() == 0 and on_the_node()):
        pytest.skip("needs root on the cluster's only node")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, with nothing of ours in it."""
    assert shutil.which("kubectl"), "kubectl is not installed"
    found = Cluster()
    found.delete()
    return found


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A drawn picture of pants."""
    return sample_picture("pants", 3)


@pytest.fixture(scope="session")
def pictures(picture: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of that picture, on a host outside the cluster."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "pants.jpg").write_bytes(picture)
    with picture_host(folder) as host:
        yield f"http://{host}/pants.jpg"


@pytest.fixture(scope="session")
def deployed(cluster: Cluster) -> Iterator[Cluster]:
    """Everything applied and ready, with one pod of each that no autoscaler changes."""
    cluster.apply()
    cluster.one_of_each()
    yield cluster
    if os.environ.get("CI"):
        for pod in (*cluster.pods("model"), *cluster.pods("gateway")):
            print(pod.metadata.name, cluster.logs(pod)[-2000:])
    cluster.delete()


@pytest.fixture(scope="session")
def request_(picture: bytes) -> Request:
    """What a load sends: a picture, to the gateway's Service."""
    return Request(
        ("127.0.0.1", int(os.environ.get("GATEWAY_NODE_PORT", NODE_PORT))),
        "/predict",
        picture,
        {"Content-Type": "image/jpeg"},
        DEADLINE,
        wanted=("X-Model-Version",),
        keep_bodies=True,
    )


@pytest.fixture(scope="session")
def capacity(deployed: Cluster, request_: Request) -> float:
    """Requests a second that one gateway and one model do."""
    deployed.one_of_each()
    measured = measure_capacity(request_)
    print(f"capacity of one pod of each: {measured:.0f} requests a second")
    return measured


@pytest.fixture
def load(deployed: Cluster, capacity: float, request_: Request) -> Callable[..., Load]:
    """Makes a load at half of what one pod of each can do; one of each is there to begin with.

    It goes to the gateway's Service, or to the address given.
    """
    deployed.one_of_each()
    wait_until(lambda: takes_connections(request_.address), 30.0, "a way to the pod")

    def begin(address: tuple[str, int] = request_.address) -> Load:
        request = dataclasses.replace(request_, address=address, source=next(SOURCES))
        return Load(request, capacity * SHARE, capacity=capacity)

    return begin
