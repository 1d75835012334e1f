"""Applied, scaled, updated and broken under load, on the cluster that KUBECONFIG points at."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from kubernetes import client

from tests.support.cluster import NAMESPACE, Cluster, first_process, timed
from tests.support.ingress import ingress
from tests.support.load import ENOUGH, Load, Report
from tests.support.load_client import Request
from tests.support.predictions import finish, takes_connections
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

APPLY_SECONDS = 120.0
GATEWAY_PORT = 9696
SHARE_SECONDS = 60.0
LEAST_SHARE = 0.2
SCALING_SHARE = 0.7
IN_FLIGHT = 32
"""More than one pod has at once at half of what it can do."""
PROXY_SECONDS = 3.0
"""Between a pod's being not ready and kube-proxy's leaving it out."""
TOO_MANY_REQUESTS = 429

Loads = Callable[..., Load]


def lost(report: Report) -> int:
    return sum(report.lost.values())


@pytest.mark.node
def test_applied_from_nothing_a_picture_by_url_is_predicted(
    cluster: Cluster, pictures: str, request_: Request
) -> None:
    cluster.delete()
    host, port = request_.address
    with timed(APPLY_SECONDS, "from nothing to the first prediction"):
        cluster.apply()
        wait_until(
            lambda: takes_connections((host, port)), APPLY_SECONDS, "a Service that leads on"
        )
        body = {"url": pictures, "top": 1}
        answer = requests.post(f"http://{host}:{port}/predict", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["pants"]
    cluster.one_of_each()


@pytest.mark.parametrize("name", ["gateway", "model"])
def test_a_rollout_loses_nothing(name: str, deployed: Cluster, load: Loads) -> None:
    with load() as running:
        running.wait_for(200)
        deployed.restart(name)
        deployed.rolled_out(name)
        running.wait_for(ENOUGH)
    assert lost(finish(running)) == 0


def calls(cluster: Cluster) -> dict[str, int]:
    """How many predictions each of the model's pods has answered, by its own count."""
    counted = {}
    for pod in cluster.ready("model"):
        page = requests.get(
            f"http://{pod.status.pod_ip}:8501/monitoring/prometheus/metrics", timeout=10
        )
        lines = [line for line in page.text.splitlines() if "request_count{" in line]
        good = [line for line in lines if 'status="OK"' in line]
        counted[pod.metadata.name] = sum(int(float(line.split()[-1])) for line in good)
    return counted


@pytest.mark.node
def test_new_model_pods_get_their_share_within_a_minute(deployed: Cluster, load: Loads) -> None:
    deployed.scale("model", 1)
    with load() as running:
        running.wait_for(200)
        deployed.scale("model", 3)
        scaled = time.monotonic()
        before = calls(deployed)
        at = len(running.answers)

        def spread() -> bool:
            now = calls(deployed)
            done = {name: now[name] - before[name] for name in before}
            enough = sum(done.values()) > 300
            return enough and min(done.values()) >= LEAST_SHARE * sum(done.values())

        wait_until(spread, SHARE_SECONDS, "20 % of the calls for each of three pods")
        print(f"each of 3 pods has 20 % of the calls after {time.monotonic() - scaled:.1f} s")
        running.wait_for(max(ENOUGH, at + 300))
    assert lost(finish(running)) == 0


@pytest.mark.node
def test_killed_model_pods_lose_nothing(deployed: Cluster, load: Loads) -> None:
    deployed.scale("model", 3)
    with load() as running:
        for number in range(5):
            running.wait_for(300 * (number + 1))
            pod = deployed.ready("model")[number % 3]
            os.kill(first_process(pod), signal.SIGKILL)
            wait_until(lambda: len(deployed.ready("model")) < 3, 30.0, "a pod that is not ready")
            deployed.settle("model", 3)
        running.wait_for(ENOUGH)
    assert lost(finish(running)) == 0


def test_every_pod_may_be_evicted_and_nothing_is_lost(deployed: Cluster, load: Loads) -> None:
    for name in ("model", "gateway"):
        deployed.scale(name, 2)
    refused = 0
    with load() as running:
        running.wait_for(200)
        for name in ("model", "gateway"):
            for pod in deployed.ready(name):
                refused += evict(deployed, pod.metadata.name)
            deployed.settle(name, 2)
        running.wait_for(ENOUGH)
    assert lost(finish(running)) == 0
    assert refused, "the budget never said no, so it was not tried"


def evict(cluster: Cluster, name: str) -> int:
    """Evict a pod, as often as the budget refuses; how often it did."""
    metadata = client.V1ObjectMeta(name=name, namespace=NAMESPACE)
    refusals = Counter[int]()

    def evicted() -> bool:
        try:
            body = client.V1Eviction(metadata=metadata)
            cluster.core.create_namespaced_pod_eviction(name, NAMESPACE, body)
        except client.ApiException as error:
            refusals[error.status] += 1
            if error.status != TOO_MANY_REQUESTS:
                raise
            return False
        return True

    wait_until(evicted, 120.0, f"the eviction of {name}")
    return refusals[TOO_MANY_REQUESTS]


def test_processor_load_scales_both_up_and_back_down(
    deployed: Cluster, capacity: float, request_: Request
) -> None:
    for name in ("model", "gateway"):
        deployed.scale(name, 1)
        bounds = {"spec": {"minReplicas": 1, "maxReplicas": 3}}
        deployed.autoscaling.patch_namespaced_horizontal_pod_autoscaler(name, NAMESPACE, bounds)
    started = time.monotonic()
    with Load(request_, capacity * SCALING_SHARE, capacity=capacity) as running:
        for name in ("gateway", "model"):
            wait_until(lambda name=name: len(deployed.ready(name)) > 1, 150.0, f"more of {name}")  # type: ignore[misc]
            print(f"{name} scaled up after {time.monotonic() - started:.0f} s")
        running.wait_for(ENOUGH)
    report = finish(running)
    ended = time.monotonic()
    for name in ("gateway", "model"):
        deployed.settle(name, 1, 240.0)
        print(f"{name} is back at one pod {time.monotonic() - ended:.0f} s after the load")
    # New pods start on the processors that serve: more than fits is refused at once, nothing else.
    assert set(report.lost) <= {"status-503"}


def kill(pid: int) -> float:
    """Kill a pod's first process; when it was gone, and with it every other of the pod."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10.0, "the end of the killed process")
    return time.monotonic()


@pytest.mark.node
def test_a_killed_gateway_pod_loses_only_what_was_sent_to_it(
    deployed: Cluster, load: Loads
) -> None:
    """What was in flight, and who was sent there until the cluster knew that nobody listens."""
    deployed.scale("gateway", 3)
    with load() as running:
        running.wait_for(300)
        killed = kill(first_process(deployed.ready("gateway")[0]))
        wait_until(lambda: len(deployed.ready("gateway")) < 3, 30.0, "a pod that is not ready")
        noticed = time.monotonic()
        deployed.settle("gateway", 3)
        running.wait_for(ENOUGH)
    report = finish(running)
    print(f"the cluster knew after {noticed - killed:.2f} s")
    gone = [answer for answer in running.answers if answer.failure]
    in_flight = [each for each in gone if each.started < killed]
    after = [each for each in gone if each.started >= killed]
    print(f"{len(in_flight)} were in flight, {len(after)} came before the cluster knew")
    late = max((each.started - killed for each in after), default=0.0)
    print(f"the last of them {late:.2f} s after the kill: {Counter(each.failure for each in gone)}")
    assert len(in_flight) <= IN_FLIGHT
    assert {each.failure for each in after} <= {"refused", "reset"}
    assert late < noticed - killed + PROXY_SECONDS
    assert lost(report) == len(gone)


@pytest.mark.node
def test_behind_an_ingress_a_killed_gateway_pod_loses_only_what_it_was_working_on(
    deployed: Cluster, load: Loads, tmp_path: Path
) -> None:
    """An Ingress controller moves on to another pod where the first one takes no connection."""
    deployed.scale("gateway", 3)
    pods = deployed.ready("gateway")
    addresses = [(pod.status.pod_ip, GATEWAY_PORT) for pod in pods]
    with ingress(addresses, tmp_path) as address, load(address) as running:
        running.wait_for(300)
        pid = first_process(pods[0])
        before = time.monotonic()
        after = kill(pid)
        wait_until(lambda: len(deployed.ready("gateway")) < 3, 30.0, "a pod that is not ready")
        deployed.settle("gateway", 3)
        running.wait_for(ENOUGH)
    report = finish(running)
    in_flight = [
        answer
        for answer in running.answers
        if answer.started <= after and answer.started + answer.seconds >= before
    ]
    print(f"{len(in_flight)} in flight on three pods, {lost(report)} lost: {report.lost}")
    gone = [answer for answer in running.answers if answer.failure]
    assert all(answer in in_flight for answer in gone), gone
