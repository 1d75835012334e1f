"""Models and versions change while the server answers."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from tests.support import tiny_models
from tests.support.model_server import ModelServer, error_of, starting, wait_until
from tests.support.serving_reference import row
from tests.support.tiny_models import predict_log, predict_request, until_request

SECONDS = 60.0
COUNTER = "/tensorflow/serving/request_count"
MISSING = re.compile("filesystem access error: (.*)")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 to 3, which add their number; they are linked to where they are served."""
    path = tmp_path_factory.mktemp("stock")
    for version in (1, 2, 3):
        tiny_models.write_half_plus(
            path / str(version), float(version), warm_up=[predict_log([1.0])]
        )
    return path


@dataclass
class Model:
    """One model of a server, which begins with version 1."""

    server: ModelServer
    name: str
    base: Path
    stock: Path

    def put(self, *versions: int) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        for version in versions:
            (self.base / str(version)).symlink_to(self.stock / str(version))

    def config(self, policy: str = "", more: str = "") -> str:
        return (
            f'config {{ name: "{self.name}" base_path: "{self.base}" model_platform: "tensorflow" '
            f"model_version_policy {{ {policy} }} {more} }}"
        )

    def wait_for(self, **states: str) -> None:
        """Wait for exactly these states, given as `v1="AVAILABLE"`."""
        wanted = {int(name[1:]): state for name, state in states.items()}
        self.server.wait_for_states(self.name, wanted)

    def answer(self, **spec: Any) -> float:
        request = predict_request(self.name, [0.0])
        if "version" in spec:
            request.model_spec.version.value = spec["version"]
        if "label" in spec:
            request.model_spec.version_label = spec["label"]
        response = self.server.prediction.Predict(request, timeout=SECONDS)
        return float(response.outputs["y"].float_val[0])

    def status_of(self, version: int) -> tuple[int, str]:
        """The error code and text in a version's status."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name, request.model_spec.version.value = self.name, version
        [found] = self.server.models.GetModelStatus(request, timeout=SECONDS).model_version_status
        return found.status.error_code, found.status.error_message


def reload(server: ModelServer, *models: str, timeout: float = SECONDS) -> Any:
    request = model_management_pb2.ReloadConfigRequest(metric_names=[COUNTER, "/nothing"])
    text_format.Parse(f"model_config_list {{ {' '.join(models)} }}", request.config)
    return server.models.HandleReloadConfigRequest(request, timeout=timeout)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """One process for all tests; it starts without a model, and each test gives it its own."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.touch()
    with starting(model_config_file=config) as server:
        yield server


@pytest.fixture
def hat(server: ModelServer, tmp_path: Path, stock: Path, request: pytest.FixtureRequest) -> Model:
    model = Model(server, request.node.name, tmp_path / "hat", stock)
    model.put(1)
    reload(server, model.config())
    return model


@pytest.mark.case("F21")
def test_a_new_version_takes_over_without_a_failing_call_and_a_broken_one_does_not(
    hat: Model,
) -> None:
    assert row("config.poll-base-path").more["default"] == 1
    answers: list[float] = [hat.answer()]
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(hat.answer())

    with ThreadPoolExecutor(1) as callers:
        asking = callers.submit(keep_asking)
        hat.put(2)
        hat.wait_for(v2="AVAILABLE", v1="END")
        tiny_models.write_broken(hat.base / "4")
        hat.wait_for(v4="END", v2="AVAILABLE", v1="END")
        stop.set()
        asking.result(SECONDS)
    assert set(answers) == {1.0, 2.0}
    assert answers == sorted(answers)
    code, text = hat.status_of(4)
    assert code == grpc.StatusCode.DATA_LOSS.value[0]
    assert text.startswith("Can't parse ")
    assert hat.status_of(2) == (0, "")


def test_a_request_under_way_is_answered_before_its_version_unloads(
    hat: Model, tmp_path: Path
) -> None:
    file = tmp_path / "go-on"
    request = until_request(hat.name, [7.0], file)
    waiting = hat.server.prediction.Predict.future(request, timeout=SECONDS)
    hat.put(2)
    hat.wait_for(v2="AVAILABLE", v1="UNLOADING")
    assert not waiting.done()
    file.touch()
    response = waiting.result(SECONDS)
    assert list(response.outputs["y"].float_val) == [7.0]
    assert response.model_spec.version.value == 1
    hat.wait_for(v2="AVAILABLE", v1="END")


def test_labels_stand_for_available_versions(hat: Model) -> None:
    hat.put(2)
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    reload(hat.server, hat.config("all {}"))
    hat.wait_for(v2="AVAILABLE", v1="AVAILABLE")
    reload(hat.server, hat.config("all {}", labels))
    assert hat.answer(label="stable") == 1.0
    assert hat.answer(label="canary") == 2.0
    assert hat.answer() == 2.0
    assert hat.answer(version=1) == 1.0


def test_a_reload_replaces_the_models_and_waits_for_the_new_ones(
    hat: Model, tmp_path: Path
) -> None:
    assert row("config.reload-replaces")
    assert row("config.reload-waits")
    shoe = Model(hat.server, f"{hat.name}-shoe", tmp_path / "shoe", hat.stock)
    shoe.put(2)
    assert hat.answer() == 1.0
    response = reload(hat.server, shoe.config())
    assert response.status.error_code == 0
    assert {metric.name: metric.int64_value_increase for metric in response.metric} == {
        COUNTER: 0,
        "/nothing": 0,
    }
    assert shoe.answer() == 2.0
    hat.wait_for(v1="END")
    row("errors.unknown-model").check(*error_of(hat.answer), NAME=hat.name)
    reload(hat.server, hat.config())
    assert hat.answer() == 1.0


def test_a_reload_with_a_failing_model_answers_unknown_with_the_list(
    hat: Model, tmp_path: Path
) -> None:
    shoe = Model(hat.server, f"{hat.name}-shoe", tmp_path / "shoe", hat.stock)
    tiny_models.write_broken(shoe.base / "1")
    code, text = error_of(lambda: reload(hat.server, hat.config(), shoe.config()))
    assert code == row("config.reload-failing-load").grpc_code
    assert text.startswith(
        f"1 model(s) did not become available: {{{{{{name: {shoe.name} version: 1}} "
        "due to error: DATA_LOSS: Can't parse "
    )
    assert hat.answer() == 1.0


def test_a_model_whose_base_path_appears_later_is_served_then(hat: Model, tmp_path: Path) -> None:
    shoe = Model(hat.server, f"{hat.name}-shoe", tmp_path / "shoe", hat.stock)
    code, _ = error_of(lambda: reload(hat.server, hat.config(), shoe.config(), timeout=0.5))
    assert code == "DEADLINE_EXCEEDED"
    found = hat.server.wait_for_log(MISSING)
    row("errors.base-path-missing").check_text(found.group(1), P=shoe.base, NAME=shoe.name)
    shoe.put(3)
    wait_until(lambda: "Latest" not in text_of(shoe), lambda: text_of(shoe))
    assert shoe.answer() == 3.0


def text_of(model: Model) -> str:
    """What is wrong with a model's answer; nothing, if it answers."""
    try:
        model.answer()
    except grpc.RpcError as error:
        return str(error.details())
    return ""


def test_a_logging_config_is_refused(hat: Model) -> None:
    logging = "logging_config { sampling_config { sampling_rate: 1 } }"
    code, message = error_of(lambda: reload(hat.server, hat.config("", logging)))
    assert code == "INVALID_ARGUMENT"
    row("config.logging-config").check_text(message)


def test_the_config_file_chooses_versions_and_is_polled(tmp_path: Path, stock: Path) -> None:
    assert row("config.poll-config-file")
    file = tmp_path / "models.config"
    file.touch()
    flags = {"model_config_file": file, "model_config_file_poll_wait_seconds": 1}
    with starting(**flags) as server:
        model = Model(server, "hat", tmp_path / "hat", stock)
        model.put(1, 2, 3)

        def write(policy: str) -> None:
            fresh = file.with_suffix(".new")
            fresh.write_text(f"model_config_list {{ {model.config(policy)} }}")
            fresh.rename(file)

        write("specific { versions: 1 versions: 3 }")
        wait_until(lambda: not text_of(model), lambda: text_of(model))
        model.wait_for(v3="AVAILABLE", v1="AVAILABLE")
        assert model.answer() == 3.0
        write("latest { num_versions: 2 }")
        model.wait_for(v3="AVAILABLE", v2="AVAILABLE", v1="END")
        file.write_text("model_config_list {")
        server.wait_for_log(re.compile("failed to ReloadConfig: Invalid protobuf file: "))
        assert model.answer(version=2) == 2.0
