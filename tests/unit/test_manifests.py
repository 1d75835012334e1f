"""What images, compose and manifests set, held to what the code knows."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from gateway import problem
from gateway.admission import BodyLimits
from gateway.errors import GatewayError, Kind
from gateway.metrics import Exposition, Metrics
from gateway.model_client.guards import Guards, State
from gateway.scoring import stages
from gateway.scoring.decode_limits import RESIDENT_MOST
from gateway.server.worker import KILL_MARGIN
from gateway.settings import MIB, Settings
from model.server import config
from model.server.messages import new_message
from model.server.metrics import Metrics as ServingMetrics
from tests.support import manifests
from tests.support.manifests import COMPONENTS, K8S, PRODUCTION, Document, Manifest

ROOT = Path(__file__).parents[2]
KNOWN = {field.name.upper() for field in dataclasses.fields(Settings)}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OLDEST_KUBERNETES = "1.31"
"""Schemas of this version and of the newest that we have are asked."""

GATEWAY = manifests.the("Deployment", "gateway")
MODEL = manifests.the("Deployment", "model")
DEPLOYMENTS = [each for each in manifests.resources() if each.kind == "Deployment"]
RESOURCES = manifests.resources()
OWN = [each for each in RESOURCES if not each.custom]
CUSTOM = [each for each in RESOURCES if each.custom]

each_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each.name)


def test_compose_sets_only_what_the_gateway_knows() -> None:
    assert COMPOSE["services"]["gateway"]["environment"].keys() <= KNOWN


def test_the_image_sets_only_what_the_gateway_or_python_knows() -> None:
    text = (ROOT / "gateway.dockerfile").read_text()
    names = re.findall(r"\b([A-Z_]+)=", "".join(re.findall(r"^ENV (.*)$", text, re.MULTILINE)))
    assert "BIND" in names
    assert {name for name in names if not name.startswith("PYTHON")} <= KNOWN


def test_private_addresses_are_let_in_by_nobody_but_who_runs_it() -> None:
    environment = COMPOSE["services"]["gateway"]["environment"]
    assert environment["ALLOWED_NETWORKS"] == "${ALLOWED_NETWORKS:-}"
    production = [ROOT / "gateway.dockerfile", ROOT / "serve.dockerfile"]
    production += K8S.rglob("*.yaml")
    for path in production:
        assert "ALLOWED_NETWORKS" not in path.read_text(), path


def test_no_image_is_taken_by_a_tag_that_moves() -> None:
    moving = re.compile(r":latest\b|newTag: .*latest")
    for path in [*ROOT.glob("*.dockerfile"), ROOT / "docker-compose.yml", *K8S.rglob("*.yaml")]:
        assert not moving.search(path.read_text()), path


# --- every file is read, and every resource is one that Kubernetes takes


def test_every_file_is_named_by_the_kustomization_beside_it() -> None:
    named = [
        path
        for directory, kustomization in manifests.kustomizations().items()
        for path in manifests.named_files(directory, kustomization)
    ]
    files = {
        path for path in K8S.rglob("*") if path.is_file() and path.name != "kustomization.yaml"
    }
    assert len(named) == len(set(named))
    assert set(named) == files


def test_every_document_is_known_as_a_resource_a_patch_or_a_kustomization() -> None:
    texts = [path.read_text() for path in K8S.rglob("*.yaml")]
    kinds = re.findall(r"^kind: ", "\n".join(texts), re.MULTILINE)
    assert len(RESOURCES) + len(manifests.merge_patches()) + len(manifests.kustomizations()) == len(
        kinds
    )
    assert len(OWN) > 15
    assert len(CUSTOM) > 3


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("resource", OWN, ids=str)
def test_every_resource_of_kubernetes_own_is_valid(resource: Manifest, version: str) -> None:
    kubernetes_validate.validate(resource.document, version, strict=True)


def test_only_components_need_what_somebody_has_to_install() -> None:
    for each in CUSTOM:
        assert each.path.is_relative_to(COMPONENTS), each
        assert each.document.keys() == {"apiVersion", "kind", "metadata", "spec"}, each


# --- settings


def environment(*containers: Document) -> dict[str, str]:
    """What is set for the gateway by hand, with a pod's address and revision for example."""
    of_pod = {"$(POD_IP)": "10.1.2.3", "$(REVISION)": "7d9c6b5f4d"}
    settings = dict(manifests.the("ConfigMap", "gateway-settings").document["data"])
    for container in containers:
        for variable in container.get("env", []):
            if "value" in variable:
                settings[variable["name"]] = variable["value"]
                for name, value in of_pod.items():
                    settings[variable["name"]] = settings[variable["name"]].replace(name, value)
    return settings


def patched_gateways() -> list[Document]:
    return [
        manifests.container(patch)
        for patch in manifests.merge_patches()
        if (patch.kind, patch.name) == ("Deployment", "gateway")
    ]


SETTINGS = Settings.from_environment(environment(manifests.container(GATEWAY)))


def test_manifests_set_what_the_gateway_knows_to_values_that_it_takes() -> None:
    written = environment(manifests.container(GATEWAY), *patched_gateways())
    assert {"TF_SERVING_HOST", "ALLOWED_HOSTS", "LOOP_TOKEN"} <= written.keys() <= KNOWN
    assert Settings.from_environment(written).tf_serving_host == (("model", 8500),)
    for patch in manifests.merge_patches():
        assert patch.kind != "ConfigMap" or patch.document["data"].keys() <= KNOWN


def test_the_gateways_container_reads_these_settings() -> None:
    assert manifests.container(GATEWAY)["envFrom"] == [
        {"configMapRef": {"name": "gateway-settings"}}
    ]


def test_the_model_of_the_settings_is_the_model_that_probes_ask_for() -> None:
    container = manifests.container(MODEL)
    (model,) = SETTINGS.models
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"].split("/")[:4] == ["", "v1", "models", model]


# --- what a pod may do and how much it may take


@each_deployment
def test_pods_are_restricted(deployment: Manifest) -> None:
    pod, container = manifests.pod(deployment), manifests.container(deployment)
    assert (
        pod["securityContext"].items()
        >= {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }.items()
    )
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    namespace = manifests.the("Namespace", "tensorgate").document["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"


def test_nothing_shares_the_node_and_no_patch_touches_what_pods_may_do() -> None:
    shared = re.compile(r"hostPath|hostNetwork|hostPID|hostIPC|hostPort|privileged: true")
    for path in K8S.rglob("*.yaml"):
        assert not shared.search(path.read_text()), path
    paths = [patch.path for patch in manifests.merge_patches()]
    for path in [*paths, *manifests.operations()]:
        assert "securityContext" not in path.read_text(), path


@each_deployment
def test_pods_hold_no_token_of_the_cluster(deployment: Manifest) -> None:
    pod = manifests.pod(deployment)
    account = manifests.the("ServiceAccount", pod["serviceAccountName"])
    assert pod["automountServiceAccountToken"] is False
    assert account.document["automountServiceAccountToken"] is False


@each_deployment
def test_pods_reserve_and_bound_processors_and_memory(deployment: Manifest) -> None:
    resources = manifests.container(deployment)["resources"]
    for name in ("cpu", "memory"):
        requested, limit = (
            manifests.quantity(resources[of][name]) for of in ("requests", "limits")
        )
        assert 0 < requested <= limit


@each_deployment
def test_pods_write_only_to_volumes_of_a_bounded_size(deployment: Manifest) -> None:
    volumes = manifests.pod(deployment)["volumes"]
    assert volumes
    for volume in volumes:
        assert volume.keys() == {"name", "emptyDir"}
        assert manifests.quantity(volume["emptyDir"]["sizeLimit"]) <= 64 * MIB


@each_deployment
def test_images_have_a_version(deployment: Manifest) -> None:
    container = manifests.container(deployment)
    name, _, tag = container["image"].partition(":")
    assert re.fullmatch(r"[0-9][\w.-]*", tag)
    assert container["imagePullPolicy"] == "IfNotPresent"
    production = manifests.kustomizations()[PRODUCTION]
    assert name in {image["name"] for image in production["images"]}


def test_the_gateways_memory_covers_decoding_and_what_each_worker_holds() -> None:
    container = manifests.container(GATEWAY)
    limits = container["resources"]["limits"]
    workers = SETTINGS.workers if "WORKERS" in environment() else manifests.quantity(limits["cpu"])
    volumes = sum(
        manifests.quantity(volume["emptyDir"]["sizeLimit"])
        for volume in manifests.pod(GATEWAY)["volumes"]
        if volume["emptyDir"].get("medium") == "Memory"
    )
    children = SETTINGS.decode_children * RESIDENT_MOST
    worker = SETTINGS.upload_memory + SETTINGS.fetch_memory + 200 * MIB + children
    needed = SETTINGS.decode_memory + workers * worker + volumes
    assert manifests.quantity(limits["memory"]) >= needed


# --- starting, updating, stopping


@each_deployment
def test_how_many_pods_there_are_is_left_to_the_autoscaler(deployment: Manifest) -> None:
    autoscaler = manifests.the("HorizontalPodAutoscaler", deployment.name).spec
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment.name}
    assert autoscaler["scaleTargetRef"] == target
    assert 1 < autoscaler["minReplicas"] < autoscaler["maxReplicas"]
    assert "replicas" not in deployment.spec
    assert "/spec/replicas" not in {
        path for each in manifests.operations().values() for path in each
    }
    assert not any(
        "replicas" in patch.document.get("spec", {}) for patch in manifests.merge_patches()
    )


@each_deployment
def test_an_update_takes_no_pod_away_before_another_is_ready(deployment: Manifest) -> None:
    strategy = deployment.spec["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert strategy.get("type", "RollingUpdate") == "RollingUpdate"


@each_deployment
def test_one_pod_at_a_time_is_evicted(deployment: Manifest) -> None:
    budget = manifests.the("PodDisruptionBudget", deployment.name).spec
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@each_deployment
def test_starting_living_and_being_ready_are_asked_apart(deployment: Manifest) -> None:
    container = manifests.container(deployment)
    startup, liveness, readiness = (
        container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")
    )
    assert liveness["httpGet"] != readiness["httpGet"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 60
    assert liveness["failureThreshold"] * liveness["periodSeconds"] >= 30


def test_the_gateway_lives_though_the_model_is_away() -> None:
    container = manifests.container(GATEWAY)
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_the_gateway_has_drained_before_it_is_killed() -> None:
    needed = SETTINGS.drain_delay + SETTINGS.drain_timeout + KILL_MARGIN
    assert manifests.pod(GATEWAY)["terminationGracePeriodSeconds"] >= needed
    assert SETTINGS.drain_delay >= 5
    assert SETTINGS.drain_timeout > SETTINGS.request_timeout


def test_the_gateway_keeps_connections_longer_than_proxies_do() -> None:
    assert SETTINGS.keep_alive > 60


def test_no_gateway_calls_a_model_that_is_about_to_be_killed() -> None:
    pod, container = manifests.pod(MODEL), manifests.container(MODEL)
    milliseconds = dict(re.findall(r"grpc\.(\w+)=(\d+)", " ".join(container["args"])))
    age = int(milliseconds["max_connection_age_ms"]) / 1000
    grace = int(milliseconds["max_connection_age_grace_ms"]) / 1000
    command, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    cached_names, look_ups = 30, 1
    assert command == "sleep"
    assert float(pause) >= 1.1 * age + cached_names + look_ups
    assert pod["terminationGracePeriodSeconds"] >= float(pause) + SETTINGS.request_timeout
    assert grace > SETTINGS.request_timeout


# --- what finds what


def ports(deployment: Manifest) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"] for port in manifests.container(deployment)["ports"]
    }


def selected(labels: dict[str, str]) -> Manifest:
    """The one Deployment whose pods have the labels."""
    assert labels
    (found,) = (
        each
        for each in DEPLOYMENTS
        if each.spec["template"]["metadata"]["labels"].items() >= labels.items()
    )
    return found


@each_deployment
def test_a_deployment_spreads_selects_and_serves_its_own_pods(deployment: Manifest) -> None:
    own = deployment.spec["selector"]["matchLabels"]
    assert selected(own) == deployment
    service = manifests.the("Service", deployment.name).spec
    assert selected(service["selector"]) == deployment
    assert {port["targetPort"] for port in service["ports"]} <= ports(deployment).keys()
    budget = manifests.the("PodDisruptionBudget", deployment.name).spec
    assert selected(budget["selector"]["matchLabels"]) == deployment
    constraints = manifests.pod(deployment)["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    assert all(each["labelSelector"] == {"matchLabels": own} for each in constraints)


@each_deployment
def test_a_policy_says_who_calls_whom(deployment: Manifest) -> None:
    policy = manifests.the("NetworkPolicy", deployment.name).spec
    assert selected(policy["podSelector"]["matchLabels"]) == deployment
    assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_policies_and_monitors_name_ports_that_their_pods_have() -> None:
    checked = 0
    for each in RESOURCES:
        if each.kind == "NetworkPolicy":
            pods = selected(each.spec["podSelector"]["matchLabels"])
            named = [port["port"] for rule in each.spec["ingress"] for port in rule["ports"]]
        elif each.kind == "PodMonitor":
            pods = selected(each.spec["selector"]["matchLabels"])
            named = [endpoint["port"] for endpoint in each.spec["podMetricsEndpoints"]]
        else:
            continue
        assert set(named) <= ports(pods).keys(), each
        checked += 1
    assert checked >= 6


def test_the_gateway_may_call_the_model_and_the_model_nobody() -> None:
    gateway, model = (manifests.the("NetworkPolicy", name).spec for name in ("gateway", "model"))
    (peer,) = model["ingress"][0]["from"]
    assert selected(peer["podSelector"]["matchLabels"]) == GATEWAY
    assert model["egress"] == []
    calls = [
        (peer["podSelector"]["matchLabels"], rule["ports"][0]["port"])
        for rule in gateway["egress"]
        for peer in rule["to"]
        if peer.keys() == {"podSelector"}
    ]
    (blue, port), (green, green_port) = calls
    assert selected(blue) == MODEL
    assert port == green_port == "grpc"
    (labels,) = manifests.kustomizations()[K8S / "overlays" / "green"]["labels"]
    assert green == labels["pairs"]
    ((_, port),) = SETTINGS.tf_serving_host
    assert ports(MODEL)["grpc"] == port


def test_the_gateway_listens_where_its_pod_says() -> None:
    text = (ROOT / "gateway.dockerfile").read_text()
    listening = {int(port) for port in re.findall(r"BIND=0\.0\.0\.0:(\d+)", text)}
    assert listening == set(ports(GATEWAY).values())


# --- production


def test_production_has_three_pods_of_each_on_different_nodes() -> None:
    replicas = manifests.operations()[PRODUCTION / "three-replicas.yaml"]
    assert replicas == {"/spec/minReplicas": 3}
    placement = manifests.operations()[PRODUCTION / "placement.yaml"]
    hostname = "/spec/template/spec/topologySpreadConstraints/1"
    assert placement[f"{hostname}/topologyKey"] == "kubernetes.io/hostname"
    assert placement[f"{hostname}/whenUnsatisfiable"] == "DoNotSchedule"
    assert manifests.the("PriorityClass", placement["/spec/template/spec/priorityClassName"])


def test_production_is_addressed_by_one_name_and_each_pod_by_its_own_address() -> None:
    written = environment(*patched_gateways())["ALLOWED_HOSTS"]
    (replacement,) = manifests.kustomizations()[PRODUCTION]["replacements"]
    places = {target["select"]["kind"]: target["fieldPaths"] for target in replacement["targets"]}
    placeholder, *addresses = written.split(",")
    assert addresses == ["10.1.2.3", "[10.1.2.3]"]
    ingress, route = manifests.the("Ingress", "gateway"), manifests.the("HTTPRoute", "gateway")
    assert [rule["host"] for rule in ingress.spec["rules"]] == [placeholder]
    assert [tls["hosts"] for tls in ingress.spec["tls"]] == [[placeholder]]
    assert route.spec["hostnames"] == [placeholder]
    assert places == {
        "Ingress": ["spec.rules.0.host", "spec.tls.0.hosts.0"],
        "HTTPRoute": ["spec.hostnames.0"],
        "Deployment": [
            "spec.template.spec.containers.[name=gateway].env.[name=ALLOWED_HOSTS].value"
        ],
    }


def test_the_way_in_lets_through_what_the_gateway_takes_and_waits_longer() -> None:
    written = manifests.the("Ingress", "gateway").document["metadata"]["annotations"]
    annotations = {name.rpartition("/")[2]: value for name, value in written.items()}
    limits = BodyLimits.from_settings(SETTINGS)
    largest = max(dataclasses.astuple(limits))
    size = int(annotations["proxy-body-size"].removesuffix("m")) * MIB
    assert largest <= size <= largest + MIB
    for name in ("proxy-read-timeout", "proxy-send-timeout"):
        assert float(annotations[name]) > SETTINGS.request_timeout
    assert "non_idempotent" not in annotations["proxy-next-upstream"]
    for rule in manifests.the("HTTPRoute", "gateway").spec["rules"]:
        assert manifests.seconds(rule["timeouts"]["request"]) > SETTINGS.request_timeout


def test_the_ways_in_reach_the_gateways_service() -> None:
    service = manifests.the("Service", "gateway").spec
    rules = manifests.the("Ingress", "gateway").spec["rules"]
    backends = [path["backend"]["service"] for rule in rules for path in rule["http"]["paths"]]
    assert backends == [{"name": "gateway", "port": {"name": service["ports"][0]["name"]}}]
    (rule,) = manifests.the("HTTPRoute", "gateway").spec["rules"]
    assert rule["backendRefs"] == [{"name": "gateway", "port": service["ports"][0]["port"]}]


# --- components


def test_keda_scales_as_far_and_as_fast_as_the_autoscalers_it_takes_the_place_of() -> None:
    least = manifests.operations()[PRODUCTION / "three-replicas.yaml"]["/spec/minReplicas"]
    for deployment in DEPLOYMENTS:
        scaled = manifests.the("ScaledObject", deployment.name).spec
        autoscaler = manifests.the("HorizontalPodAutoscaler", deployment.name).spec
        behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert scaled["scaleTargetRef"] == {"name": deployment.name}
        assert behavior == autoscaler["behavior"]
        assert scaled["minReplicaCount"] == least
        assert scaled["maxReplicaCount"] == autoscaler["maxReplicas"]
    patch = Manifest(*_only_patch("keda"))
    assert (patch.kind, patch.document["$patch"]) == ("HorizontalPodAutoscaler", "delete")


def _only_patch(component: str) -> tuple[Path, Document]:
    (patch,) = manifests.merge_patches(COMPONENTS / component)
    return patch.path, patch.document


def test_the_model_server_reads_its_monitoring_file_and_is_asked_at_its_path() -> None:
    component = COMPONENTS / "prometheus"
    values = manifests.operations()[component / "model-metrics.yaml"]
    argument = values["/spec/template/spec/containers/0/args/-"]
    mount = values["/spec/template/spec/containers/0/volumeMounts/-"]
    volume = values["/spec/template/spec/volumes/-"]
    generators = manifests.kustomizations()[component]["configMapGenerator"]
    files = {generator["name"]: generator["files"] for generator in generators}
    (file,) = files[volume["configMap"]["name"]]
    assert volume["name"] == mount["name"]
    assert argument == f"--monitoring_config_file={mount['mountPath']}/{file}"
    written = config.read_text_proto(str(component / file), new_message("MonitoringConfig"))
    assert written.prometheus_config.enable
    (endpoint,) = manifests.the("PodMonitor", "model").spec["podMetricsEndpoints"]
    assert endpoint["path"] == written.prometheus_config.path


def test_monitoring_reaches_the_ports_that_its_monitors_ask() -> None:
    for deployment in DEPLOYMENTS:
        policy = manifests.the("NetworkPolicy", f"{deployment.name}-metrics").spec
        assert selected(policy["podSelector"]["matchLabels"]) == deployment
        (rule,) = policy["ingress"]
        (endpoint,) = manifests.the("PodMonitor", deployment.name).spec["podMetricsEndpoints"]
        assert [port["port"] for port in rule["ports"]] == [endpoint["port"]]
        labels = rule["from"][0]["namespaceSelector"]["matchLabels"]
        assert labels == {"kubernetes.io/metadata.name": "monitoring"}
        assert "egress" not in policy


def test_the_gateway_reads_its_keys_from_a_secret_that_may_change() -> None:
    patches = {patch.kind: patch for patch in manifests.merge_patches(COMPONENTS / "api-keys")}
    path = Path(patches["ConfigMap"].document["data"]["API_KEYS_FILE"])
    assert patches["ConfigMap"].name == "gateway-settings"
    assert patches["Deployment"].name == GATEWAY.name
    (mount,) = manifests.container(patches["Deployment"])["volumeMounts"]
    (volume,) = manifests.pod(patches["Deployment"])["volumes"]
    assert mount == {"name": volume["name"], "mountPath": str(path.parent), "readOnly": True}
    assert volume["secret"] == {"secretName": "gateway-api-keys"}
    for page in (COMPONENTS / "api-keys" / "kustomization.yaml", ROOT / "docs" / "kubernetes.md"):
        command = f"create secret generic {volume['secret']['secretName']} --from-file={path.name}"
        assert command in page.read_text(), page


# --- queries


class EmptyBudget:
    total_bytes = 1

    def in_use(self) -> int:
        return 0


def pages() -> str:
    """Both pages that Prometheus reads."""
    environ: dict[str, Any] = {"PATH_INFO": "/metrics"}
    exposition = Exposition(Metrics(), EmptyBudget(), Guards(["clothing-model"]).circuits)
    (page,) = exposition(environ, lambda *_: None)
    return page.decode() + ServingMetrics().text()


def known_names() -> set[str]:
    names = {"up"}
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", pages(), re.MULTILINE):
        histogram = {f"{name}_{part}" for part in ("bucket", "sum", "count")}
        names |= histogram if kind == "histogram" else {name}
    return names


@pytest.mark.parametrize(
    "query", [pytest.param(query, id=place) for place, query in manifests.queries()]
)
def test_queries_read_metrics_that_there_are(query: str) -> None:
    read = manifests.selections(query)
    assert read
    assert {selection.metric for selection in read} <= known_names()


def subclasses(error: type[GatewayError]) -> list[type[GatewayError]]:
    return [
        *error.__subclasses__(),
        *(leaf for each in error.__subclasses__() for leaf in subclasses(each)),
    ]


def test_queries_choose_by_values_that_there_are() -> None:
    slugs = {error.slug for error in subclasses(GatewayError)}
    known = {
        "outcome": {"ok", "caller-gone", *(kind.value for kind in Kind)},
        "stage": set(stages.NAMES),
        "state": {state.value for state in State},
        "reason": slugs | {slug for slug, _ in problem.OF_HTTP.values()} | {"connections"},
        "job": {f"tensorgate/{each.name}" for each in CUSTOM if each.kind == "PodMonitor"},
    }
    chosen = [
        (label, value)
        for _, query in manifests.queries()
        for selection in manifests.selections(query)
        for label, values in selection.matchers.items()
        if label in known
        for value in values.split("|")
    ]
    assert {label for label, _ in chosen} == known.keys()
    for label, value in chosen:
        assert value in known[label], (label, value)


def test_queries_are_found_where_they_are_written() -> None:
    places = [place for place, _ in manifests.queries()]
    for kind, least in (("alert", 5), ("panel", 10), ("trigger", 2)):
        assert len([place for place in places if place.startswith(kind)]) >= least


def test_the_dashboard_is_one_that_grafanas_sidecar_loads() -> None:
    component = COMPONENTS / "prometheus"
    (dashboard,) = component.glob("*.json")
    panels = json.loads(dashboard.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    generators = manifests.kustomizations()[component]["configMapGenerator"]
    (generator,) = (each for each in generators if each["files"][0].endswith(dashboard.name))
    assert generator["options"]["labels"] == {"grafana_dashboard": "1"}


def test_alerts_say_how_bad_it_is_and_what_to_do() -> None:
    groups = manifests.the("PrometheusRule", "tensorgate").spec["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["for"]
