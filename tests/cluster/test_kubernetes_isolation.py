"""What pods may do and reach, and what happens when the model or a setting is missing."""

import json
import time
from urllib.parse import urlsplit

import pytest
import requests
from kubernetes import client

from tests.support.cluster import NAMESPACE, Cluster, Pod, is_ready, kubectl, restarts
from tests.support.load_client import Request
from tests.support.predictions import predict
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

ANSWER_AT_ONCE = 1.0
"""Seconds in which a gateway without its model says so."""

DIAL = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
    print("open")
except OSError as error:
    print("shut", error)
"""


def dial(cluster: Cluster, pod: Pod, host: str, port: int) -> bool:
    """Whether a gateway's pod reaches a port."""
    said = cluster.run(pod, "/opt/gateway/bin/python", "-c", DIAL, host, str(port))
    print(f"{pod.metadata.name} to {host}:{port}: {said.strip()}")
    return said.startswith("open")


@pytest.mark.node
def test_a_gateway_reaches_names_models_and_the_public_and_nothing_else(
    deployed: Cluster, pictures: str
) -> None:
    (gateway,) = deployed.ready("gateway")
    model = deployed.ready("model")[0].status.pod_ip
    dns = deployed.core.read_namespaced_service("kube-dns", "kube-system").spec.cluster_ip
    api = deployed.core.read_namespaced_service("kubernetes", "default").spec.cluster_ip
    node = deployed.core.list_node().items[0].status.addresses[0].address
    assert dial(deployed, gateway, dns, 53)
    assert dial(deployed, gateway, model, 8500)
    assert dial(deployed, gateway, str(urlsplit(pictures).hostname), 80)
    refused = [(model, 8501), (api, 443), (node, 6443), ("169.254.169.254", 80)]
    assert [place for place in refused if dial(deployed, gateway, *place)] == []


@pytest.mark.node
def test_other_namespaces_and_the_model_keep_apart(deployed: Cluster) -> None:
    (gateway,) = deployed.ready("gateway")
    image = gateway.spec.containers[0].image
    model = deployed.ready("model")[0].status.pod_ip
    kubectl("create", "namespace", "elsewhere")
    try:
        kubectl(
            *("--namespace", "elsewhere", "run", "stranger", f"--image={image}"),
            "--image-pull-policy=IfNotPresent",
            *("--command", "--", "/opt/gateway/bin/python", "-m", "http.server", "8080"),
        )
        kubectl(
            *("--namespace", "elsewhere", "wait", "pod/stranger", "--for=condition=Ready"),
            "--timeout=60s",
        )
        stranger = deployed.core.read_namespaced_pod("stranger", "elsewhere")

        def said(host: str, port: int) -> str:
            command = ["/opt/gateway/bin/python", "-c", DIAL, host, str(port)]
            return kubectl("--namespace", "elsewhere", "exec", "stranger", "--", *command)

        assert said(stranger.status.pod_ip, 8080).startswith("open"), "the stranger dials at all"
        assert said(gateway.status.pod_ip, 9696).startswith("open")
        for address, port in ((model, 8500), (model, 8501), (gateway.status.pod_ip, 9697)):
            assert said(address, port).startswith("shut"), (address, port)
        assert not dial(deployed, gateway, stranger.status.pod_ip, 8080)
    finally:
        kubectl("delete", "namespace", "elsewhere", "--wait=false")


def test_pods_are_restricted(deployed: Cluster) -> None:
    for name in ("gateway", "model"):
        pod = deployed.ready(name)[0]
        assert (
            not deployed.run(pod, "cat", "/proc/1/status").partition("CapEff:\t")[2][:16].strip("0")
        )
        for path in ("/", "/opt", "/home"):
            with pytest.raises(AssertionError, match="Read-only file system"):
                deployed.run(pod, "touch", f"{path}/written")
        with pytest.raises(AssertionError, match="No such file"):
            deployed.run(pod, "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
        assert deployed.run(pod, "id", "-u").strip() == "10001"


def test_a_pod_without_our_security_context_is_refused(deployed: Cluster) -> None:
    image = deployed.ready("gateway")[0].spec.containers[0].image
    body = {
        "metadata": {"name": "careless"},
        "spec": {"containers": [{"name": "careless", "image": image}]},
    }
    with pytest.raises(client.ApiException) as refused:
        deployed.core.create_namespaced_pod(NAMESPACE, body)
    assert refused.value.status == 403
    assert "violates PodSecurity" in json.loads(refused.value.body)["message"]


def test_without_its_model_a_gateway_says_so_at_once_and_recovers_untouched(
    deployed: Cluster, request_: Request
) -> None:
    host, port = request_.address
    url = f"http://{host}:{port}"
    (before,) = deployed.ready("gateway")
    deployed.apps.patch_namespaced_deployment("model", NAMESPACE, {"spec": {"replicas": 0}})
    try:
        wait_until(lambda: not deployed.pods("model"), 120.0, "the end of the last model pod")

        wait_until(lambda: predict(request_).status_code == 503, 30.0, "503")
        started = time.monotonic()
        answer = predict(request_)
        assert time.monotonic() - started < ANSWER_AT_ONCE
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["type"].endswith(":model-unavailable")

        def named() -> bool:
            ready = requests.get(f"{url}/readyz", timeout=30)
            assert ready.status_code == 200
            return [lack["model"] for lack in ready.json()["missing"]] == ["clothing-model"]

        wait_until(named, 30.0, "/readyz to name the model")
        endpoints = json.loads(
            kubectl(
                *("--namespace", NAMESPACE, "get", "endpointslices", "--output", "json"),
                "--selector=kubernetes.io/service-name=gateway",
            )
        )
        conditions = [
            each["conditions"] for item in endpoints["items"] for each in item["endpoints"]
        ]
        assert [each["ready"] for each in conditions] == [True]
    finally:
        deployed.scale("model", 1)
    wait_until(lambda: predict(request_).status_code == 200, 30.0, "predictions again")
    (after,) = deployed.pods("gateway")
    assert after.metadata.uid == before.metadata.uid
    assert restarts(after) == 0


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("THREADS", "many", "tensorgate: THREADS='many' must be a whole number from 1 to 256"),
        (
            "TF_SERVING_HOST",
            "model",
            "tensorgate: TF_SERVING_HOST='model' must be host:port",
        ),
        ("LOG_LEVEL", "loud", "tensorgate: LOG_LEVEL='loud' must be one of"),
    ],
)
def test_a_wrong_setting_is_said_and_the_old_pods_serve_on(
    name: str, value: str, line: str, deployed: Cluster, request_: Request
) -> None:
    host, port = request_.address
    (serving,) = deployed.ready("gateway")
    wrong = {"name": "gateway", "env": [{"name": name, "value": value}]}
    template = {"metadata": {"annotations": {"wrong": name}}, "spec": {"containers": [wrong]}}
    deployed.patch("gateway", {"spec": {"template": template}})

    def failing() -> list[Pod]:
        return [
            pod
            for pod in deployed.pods("gateway")
            if pod.metadata.uid != serving.metadata.uid and restarts(pod) > 0
        ]

    try:
        wait_until(lambda: bool(failing()), 90.0, "a new pod that ended")
        (pod,) = failing()
        assert not is_ready(pod)
        last = pod.status.container_statuses[0].last_state.terminated
        assert last.exit_code == 2
        assert last.message.startswith(line), "the pod's status says it"
        assert last.message.count("\n") == 1
        wait_until(lambda: deployed.logs(pod) == last.message, 60.0, "the same line in its log")
        assert requests.get(f"http://{host}:{port}/healthz", timeout=10).status_code == 200
    finally:
        kubectl("--namespace", NAMESPACE, "rollout", "undo", "deployment/gateway")
        deployed.rolled_out("gateway")
