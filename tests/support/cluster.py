"""The cluster that KUBECONFIG points at, as tests use it."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client, config

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "tests" / "cluster" / "kubernetes"
NAMESPACE = "tensorgate"
NODE_PORT = 30696
READY_SECONDS = 120.0

Pod = Any
"""A V1Pod of the official client, which has no types."""


def kubectl(*arguments: str, timeout: float = 180.0) -> str:
    """The output of kubectl.

    Raises:
        AssertionError: it failed; the message has what it said.
    """
    finished = subprocess.run(
        ["kubectl", *arguments], capture_output=True, text=True, check=False, timeout=timeout
    )
    said = finished.stderr.strip()
    assert finished.returncode == 0, f"kubectl {' '.join(arguments)}: {said}"
    return finished.stdout


class Cluster:
    """Our namespace in it."""

    def __init__(self) -> None:
        config.load_kube_config()
        self.core = client.CoreV1Api()
        self.apps = client.AppsV1Api()
        self.autoscaling = client.AutoscalingV2Api()

    def apply(self, directory: Path = OVERLAY) -> None:
        """Apply a kustomization."""
        kubectl("apply", "--kustomize", str(directory))

    def delete(self) -> None:
        """Take everything away, and wait until it is gone."""
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", "--timeout=120s")

    def pods(self, name: str) -> list[Pod]:
        """Every pod of a Deployment that is there, those that are ending too."""
        selector = f"app.kubernetes.io/name={name}"
        found = self.core.list_namespaced_pod(NAMESPACE, label_selector=selector)
        return [pod for pod in found.items if pod.status.phase in ("Pending", "Running")]

    def ready(self, name: str) -> list[Pod]:
        """The pods that are ready and not ending."""
        return [pod for pod in self.pods(name) if is_ready(pod)]

    def settle(self, name: str, replicas: int, seconds: float = READY_SECONDS) -> None:
        """Wait until exactly so many pods are there, all of them ready."""

        def settled() -> bool:
            pods = self.pods(name)
            return len(pods) == replicas and all(map(is_ready, pods))

        wait_until(settled, seconds, f"{replicas} ready pods of {name} and no others")

    def scale(self, name: str, replicas: int) -> None:
        """Have so many replicas, and wait until there are."""
        bounds = {"spec": {"minReplicas": replicas, "maxReplicas": replicas}}
        self.autoscaling.patch_namespaced_horizontal_pod_autoscaler(name, NAMESPACE, bounds)
        self.apps.patch_namespaced_deployment(name, NAMESPACE, {"spec": {"replicas": replicas}})
        self.settle(name, replicas)

    def one_of_each(self) -> None:
        """Have one model and one gateway, and wait until there are."""
        for name in ("model", "gateway"):
            self.scale(name, 1)

    def restart(self, name: str) -> None:
        """Begin a rollout of the same pods."""
        now = datetime.now(UTC).isoformat()
        annotations = {"kubectl.kubernetes.io/restartedAt": now}
        template = {"metadata": {"annotations": annotations}}
        self.patch(name, {"spec": {"template": template}})

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        """Change a Deployment, by strategic merge."""
        self.apps.patch_namespaced_deployment(name, NAMESPACE, patch)

    def rolled_out(self, name: str, seconds: float = 240.0) -> None:
        """Wait until a rollout is done and the last old pod is gone."""
        kubectl(
            *("--namespace", NAMESPACE, "rollout", "status", f"deployment/{name}"),
            f"--timeout={seconds:.0f}s",
            timeout=seconds + 10,
        )
        replicas = self.apps.read_namespaced_deployment(name, NAMESPACE).spec.replicas
        self.settle(name, replicas, seconds)

    def run(self, pod: Pod, *command: str) -> str:
        """The output of a command in a pod."""
        return kubectl("--namespace", NAMESPACE, "exec", pod.metadata.name, "--", *command)

    def logs(self, pod: Pod) -> str:
        """What a pod has said."""
        return kubectl("--namespace", NAMESPACE, "logs", pod.metadata.name)


def is_ready(pod: Pod) -> bool:
    """Whether a pod is ready and not about to end."""
    conditions = {condition.type: condition.status for condition in pod.status.conditions or ()}
    return pod.metadata.deletion_timestamp is None and conditions.get("Ready") == "True"


def restarts(pod: Pod) -> int:
    """How often a pod's container was started again."""
    return sum(status.restart_count for status in pod.status.container_statuses or ())


def first_process(pod: Pod) -> int:
    """The pid, on this node, of a pod's first process; needs root on the node.

    Raises:
        AssertionError: the pod does not run here.
    """
    uid = pod.metadata.uid
    names = (uid, uid.replace("-", "_"))
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            groups = (directory / "cgroup").read_text()
            command = (directory / "cmdline").read_bytes()
            status = (directory / "status").read_text()
            inside = status.partition("NSpid:")[2].splitlines()[0].split()
            ours = any(name in groups for name in names) and b"pause" not in command
            if ours and inside[-1] == "1":
                return int(directory.name)
    raise AssertionError(f"no process of {pod.metadata.name} runs on this machine")


@contextlib.contextmanager
def timed(limit: float, what: str) -> Iterator[None]:
    """The block takes less than so many seconds; how many it took is printed."""
    started = time.monotonic()
    yield
    seconds = time.monotonic() - started
    print(f"{what}: {seconds:.1f} s of at most {limit:.0f} s")
    assert seconds < limit, f"{what} took {seconds:.1f} s"


def on_the_node() -> bool:
    """Whether this process is root on the cluster's only node."""
    nodes = json.loads(kubectl("get", "nodes", "--output", "json"))["items"]
    local = Path("/proc/net/fib_trie").read_text()
    addresses = [each["address"] for node in nodes for each in node["status"]["addresses"]]
    return len(nodes) == 1 and any(a in local for a in addresses)
