"""What the tests on a cluster share: the overlay applied, its capacity, a load on it."""

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator

import pytest

from model.clothing.pictures import sample_picture
from tests.support.cluster import NODE_PORT, Cluster, on_the_node
from tests.support.load import Load, measure_capacity
from tests.support.load_client import Request
from tests.support.picture_namespace import picture_host
from tests.support.waiting import wait_until

SHARE = 0.5
"""Of what one pod of each can do, what a load asks for."""

DEADLINE = 10.0


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
    for name in ("model", "gateway"):
        cluster.scale(name, 1)
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
    for name in ("model", "gateway"):
        deployed.scale(name, 1)
    measured = measure_capacity(request_)
    print(f"capacity of one pod of each: {measured:.0f} requests a second")
    return measured


def listens(address: tuple[str, int]) -> bool:
    """Whether a connection is taken."""
    with contextlib.suppress(OSError), socket.create_connection(address, 5):
        return True
    return False


@pytest.fixture
def load(deployed: Cluster, capacity: float, request_: Request) -> Callable[[], Load]:
    """Makes a load at half of what one pod of each can do; one of each is there to begin with."""
    for name in ("model", "gateway"):
        deployed.scale(name, 1)
    wait_until(lambda: listens(request_.address), 30.0, "the Service to lead to the pod")
    return lambda: Load(request_, capacity * SHARE, capacity=capacity)
