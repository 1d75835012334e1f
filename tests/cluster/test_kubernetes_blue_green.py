"""A second model beside the first, and one moment at which callers change over."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.cluster import NAMESPACE, ROOT, Cluster, kubectl
from tests.support.cluster_images import SECOND_LABELS
from tests.support.load import ENOUGH, Load
from tests.support.load_client import Request
from tests.support.predictions import answered_by, finish, predict, versions_seen
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

GREEN = ROOT / "tests" / "cluster" / "green"


def select(name: str) -> None:
    """Say which model the Service leads to, as docs/kubernetes.md does."""
    selector = f'{{"spec": {{"selector": {{"app.kubernetes.io/name": "{name}"}}}}}}'
    kubectl("--namespace", NAMESPACE, "patch", "service", "model", "--patch", selector)


@pytest.fixture
def green(deployed: Cluster) -> Iterator[Cluster]:
    """The second model, ready, and called by nobody."""
    deployed.apply(GREEN)
    deployed.settle("model-green", 1)
    yield deployed
    select("model")
    kubectl("delete", "--kustomize", str(GREEN), "--wait=false")


def test_callers_change_to_the_other_model_and_back_and_nothing_is_lost_or_mixed(
    green: Cluster, load: Callable[[], Load], request_: Request
) -> None:
    first = predict(request_)
    assert first.headers["X-Model-Version"] == "1"
    with load() as running:
        running.wait_for(200)
        select("model-green")
        wait_until(answered_by(request_, "2"), 60.0, "an answer of version 2")
        second = predict(request_)
        running.wait_for(len(running.answers) + 800)
        select("model")
        wait_until(answered_by(request_, "1"), 60.0, "an answer of version 1 again")
        running.wait_for(max(ENOUGH, len(running.answers) + 500))
    assert not finish(running).lost
    assert list(second.json()) == SECOND_LABELS
    right = {"1": first.content, "2": second.content}
    assert set(versions_seen(running, right)) == {"1", "2"}
