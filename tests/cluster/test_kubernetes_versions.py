"""Versions of a model arrive and leave under load, and bad ones change nothing."""

from collections.abc import Callable

import pytest

from tests.support.cluster import NAMESPACE, Cluster, kubectl
from tests.support.cluster_images import MODEL, SECOND_LABELS
from tests.support.load import ENOUGH, Load
from tests.support.load_client import Request
from tests.support.predictions import VERSION, finish, predict, versions_seen
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


def use(cluster: Cluster, version: int) -> None:
    """Begin a rollout of the image with that version."""
    container = {"name": "model", "image": f"{MODEL}:{version}"}
    cluster.patch("model", {"spec": {"template": {"spec": {"containers": [container]}}}})


def test_a_version_with_another_contract_comes_and_goes_and_nothing_is_lost_or_mixed(
    deployed: Cluster, load: Callable[[], Load], request_: Request
) -> None:
    first = predict(request_)
    with load() as running:
        running.wait_for(200)
        use(deployed, 2)
        deployed.rolled_out("model")
        second = predict(request_)
        running.wait_for(len(running.answers) + 200)
        kubectl("--namespace", NAMESPACE, "rollout", "undo", "deployment/model")
        deployed.rolled_out("model")
        running.wait_for(max(ENOUGH, len(running.answers) + 200))
    report = finish(running)
    assert first.headers[VERSION] == "1"
    assert second.headers[VERSION] == "2"
    assert list(second.json()) == SECOND_LABELS
    right = {"1": first.content, "2": second.content}
    assert not report.lost
    seen = versions_seen(running, right)
    print({version: seen.count(version) for version in right}, "answers by version")
    assert {"1", "2"} == set(seen)
    assert seen[0] == seen[-1] == "1"


@pytest.mark.parametrize(
    ("version", "reason"), [(3, "Read less bytes than requested"), (4, "Signature input alias")]
)
def test_a_bad_version_leaves_the_old_one_serving_and_says_so(
    version: int, reason: str, deployed: Cluster, load: Callable[[], Load]
) -> None:
    (old,) = deployed.ready("model")
    with load() as running:
        running.wait_for(200)
        use(deployed, version)

        def new() -> list[str]:
            pods = [pod for pod in deployed.pods("model") if pod.metadata.uid != old.metadata.uid]
            ended = [pod for pod in pods if pod.status.container_statuses]
            states = [pod.status.container_statuses[0] for pod in ended]
            said = [state.last_state.terminated or state.state.terminated for state in states]
            return [each.message or "" for each in said if each]

        wait_until(lambda: bool(new()), 120.0, "the end of the bad version's pod")
        message = new()[0]
        running.wait_for(max(ENOUGH, len(running.answers) + 200))
        assert [pod.metadata.uid for pod in deployed.ready("model")] == [old.metadata.uid]
    kubectl("--namespace", NAMESPACE, "rollout", "undo", "deployment/model")
    deployed.rolled_out("model")
    print(message[-600:])
    report = finish(running)
    assert not report.lost
    assert reason in message
    assert {answer.headers.get(VERSION) for answer in running.answers} == {"1"}
