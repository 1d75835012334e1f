"""Config files are read as text protos, and what is wrong in them has the server's sentence."""

import os
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.config import model_server_config_pb2

from model.server import assembly, config
from model.server.batching import BatchingSession, BatchScheduler
from model.server.batching_parameters import BatchingOptions
from model.server.errors import ServingError
from model.server.flags import Flags
from model.server.grpc_server import channel_arguments, shortened
from model.server.labels import VersionLabels
from model.server.messages import new_message
from model.server.metrics import Metrics
from model.server.session import GraphSession
from model.server.states import AVAILABLE, END, LOADING, StateBoard
from model.server.version_loader import Batching, LoadOptions, VersionLoader
from tests.support import tiny_models
from tests.support.serving_reference import row

MODELS = """
model_config_list {
  config {
    name: "hat"
    base_path: "/models/hat"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
  }
  config { name: "shoe" base_path: "gs://models/shoe" model_type: TENSORFLOW }
}
"""


def models_of(text: str) -> Any:
    message = model_server_config_pb2.ModelServerConfig()
    return config.parse_text_proto(text, message, "models.config").model_config_list.config


def refusal(flags: Flags) -> tuple[str, str]:
    with pytest.raises(ServingError) as caught:
        assembly.assemble(flags)
    return caught.value.code.name, caught.value.message


def test_a_model_config_file_is_read(tmp_path: Path) -> None:
    assert row("config.model-config-list")
    file = tmp_path / "models.config"
    file.write_text(MODELS)
    read = assembly.models_config(Flags(model_config_file=str(file)))
    hat, shoe = read.model_config_list.config
    assert list(hat.model_version_policy.specific.versions) == [1, 2]
    assert dict(hat.version_labels) == {"stable": 1}
    config.check_models([hat, shoe])
    assert [config.platform_of(model) for model in (hat, shoe)] == ["tensorflow"] * 2


def test_two_flags_stand_for_one_model() -> None:
    read = assembly.models_config(Flags(model_name="hat", model_base_path="/models/hat"))
    assert read.model_config_list.config[0].model_platform == "tensorflow"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('config { name: "a" base_path: "b" model_type: OTHER }', "choice 2 not supported."),
        (
            'config { name: "a" model_type: TENSORFLOW model_platform: "tensorflow" }',
            "Illegal setting both ModelServerConfig::model_type (deprecated)",
        ),
    ],
)
def test_a_platform_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(ServingError) as caught:
        config.check_platforms(models_of(f"model_config_list {{ {text} }}"))
    assert said in caught.value.message


def test_a_file_that_does_not_parse_or_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken"
    file.write_text("model_config_list {")
    with pytest.raises(ServingError, match=f"INVALID_ARGUMENT: Invalid protobuf file: '{file}'"):
        config.read_text_proto(str(file), model_server_config_pb2.ModelServerConfig())
    with pytest.raises(ServingError, match=r"NOT_FOUND: /gone; No such file"):
        config.read_text_proto("/gone", new_message("SSLConfig"))


def test_the_messages_that_the_package_lacks_are_read() -> None:
    text = 'server_key: "k" server_cert: "c" custom_ca: "a" client_verify: true'
    ssl = config.parse_text_proto(text, new_message("SSLConfig"), "x")
    assert (ssl.server_key, ssl.server_cert, ssl.custom_ca) == ("k", "c", "a")
    assert ssl.client_verify is True
    text = 'prometheus_config { enable: true path: "/m" }'
    monitoring = config.parse_text_proto(text, new_message("MonitoringConfig"), "x")
    assert (monitoring.prometheus_config.enable, monitoring.prometheus_config.path) == (True, "/m")
    text = "max_batch_size { value: 32 } allowed_batch_sizes: [1, 32] num_batch_threads {value: 2}"
    parameters = config.parse_text_proto(text, new_message("BatchingParameters"), "x")
    assert parameters.max_batch_size.value == 32
    assert list(parameters.allowed_batch_sizes) == [1, 32]


def test_without_a_model_nothing_starts() -> None:
    _, text = refusal(Flags())
    row("flags.no-model").check_text(text)


def test_a_batching_file_needs_batching() -> None:
    assert row("batching.file-without-enable")
    code, text = refusal(Flags(model_base_path="/m", batching_parameters_file="/b"))
    assert code == "INVALID_ARGUMENT"
    assert "batching_parameters_file is set without setting" in text


def test_the_three_parallelisms_together_are_refused() -> None:
    assert row("flags.three-parallelisms")
    code, text = refusal(
        Flags(
            model_base_path="/m",
            tensorflow_session_parallelism=1,
            tensorflow_intra_op_parallelism=1,
            tensorflow_inter_op_parallelism=1,
        )
    )
    assert code == "INVALID_ARGUMENT"
    assert text.endswith("You cannot configure all.")


def test_rest_and_grpc_need_ports_of_their_own() -> None:
    _, text = refusal(Flags(model_base_path="/m", rest_api_port=8500))
    assert text == "--rest_api_port cannot be the same as --port."


def test_two_kinds_of_credentials_are_refused() -> None:
    _, text = refusal(Flags(model_base_path="/m", use_alts_credentials=True, ssl_config_file="/s"))
    assert text.startswith("Either use_alts_credentials must be false or")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (Flags(), (0, 0)),
        (Flags(tensorflow_session_parallelism=3), (3, 3)),
        (Flags(tensorflow_intra_op_parallelism=2), (2, 0)),
        (Flags(tensorflow_inter_op_parallelism=2, tensorflow_session_parallelism=5), (0, 2)),
    ],
)
def test_parallelism_reaches_the_session(flags: Flags, expected: tuple[int, int]) -> None:
    proto = assembly.session_config(flags)
    assert (proto.intra_op_parallelism_threads, proto.inter_op_parallelism_threads) == expected


def test_the_session_config_file_is_read_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "session.config"
    file.write_text("log_device_placement: true intra_op_parallelism_threads: 7")
    flags = Flags(
        tensorflow_session_config_file=str(file),
        tensorflow_intra_op_parallelism=2,
        per_process_gpu_memory_fraction=0.5,
        mixed_precision="bfloat16",
    )
    proto = assembly.session_config(flags)
    assert proto.log_device_placement
    assert proto.intra_op_parallelism_threads == 2
    assert proto.gpu_options.per_process_gpu_memory_fraction == 0.5
    assert proto.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == 1


def test_channel_arguments_are_whole_numbers_or_text() -> None:
    given = "grpc.max_connection_age_ms=2000,grpc.primary_user_agent=x,"
    assert channel_arguments(given) == (
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.primary_user_agent", "x"),
    )
    with pytest.raises(ServingError, match="'alone' is not key=value"):
        channel_arguments("alone")


def test_an_error_text_is_cut_by_bytes_at_a_whole_character() -> None:
    assert shortened("a" * 1024) == "a" * 1024
    assert shortened("a" * 1025) == "a" * 1024 + "...TRUNCATED"
    assert shortened("a" * 1023 + "ä") == "a" * 1023 + "...TRUNCATED"


def labels_of(**versions: int) -> Any:
    models = models_of('model_config_list { config { name: "hat" base_path: "/hat" } }')
    for label, version in versions.items():
        models[0].version_labels[label] = version
    return models


def board_of(**states: int) -> StateBoard:
    board = StateBoard()
    for version, state in states.items():
        board.publish("hat", int(version[1:]), state)
    return board


def test_labels_name_available_versions() -> None:
    assert row("config.labels-available-only")
    labels = VersionLabels(board_of(v1=AVAILABLE, v2=LOADING), allow_unavailable=False)
    labels.replace(labels_of(stable=1))
    assert labels.version("hat", "stable") == 1
    with pytest.raises(ServingError) as caught:
        labels.replace(labels_of(canary=2))
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert labels.version("hat", "stable") == 1
    labels.replace(labels_of())
    with pytest.raises(ServingError, match="Unrecognized servable version label: stable"):
        labels.version("hat", "stable")


def test_where_allowed_an_unused_label_may_name_any_version() -> None:
    assert row("config.labels-unavailable-allowed")
    labels = VersionLabels(board_of(v1=AVAILABLE, v3=END), allow_unavailable=True)
    labels.replace(labels_of(stable=7))
    assert labels.version("hat", "stable") == 7
    labels.replace(labels_of(stable=7))
    with pytest.raises(ServingError, match="assign label to version 8 of model hat"):
        labels.replace(labels_of(stable=8))
    labels.replace(labels_of(stable=1))
    assert labels.version("hat", "stable") == 1


def test_batch_threads_are_named_and_counted_by_the_file(tmp_path: Path) -> None:
    assert row("batching.thread-pool-name").more["default"] == "batch_threads"
    file = tmp_path / "batching"
    file.write_text("")
    flags = Flags(model_base_path="/m", enable_batching=True, batching_parameters_file=str(file))
    scheduler = assembly.assemble(flags).scheduler
    assert scheduler is not None
    assert (scheduler.name, scheduler.threads) == ("batch_threads", len(os.sched_getaffinity(0)))
    file.write_text('thread_pool_name { value: "mine" } num_batch_threads { value: 5 }')
    assert row("batching.num-batch-threads")
    scheduler = assembly.assemble(flags).scheduler
    assert scheduler is not None
    assert (scheduler.name, scheduler.threads) == ("mine", 5)
    without_file = Flags(model_base_path="/m", enable_batching=True)
    scheduler = assembly.assemble(without_file).scheduler
    assert scheduler is not None
    assert scheduler.name == "model_server_batch_threads"


def test_a_version_may_bring_its_own_batching_parameters(tmp_path: Path) -> None:
    assert row("batching.per-model")
    path = tiny_models.write_half_plus(tmp_path / "1")
    scheduler = BatchScheduler("shared", 1)
    batching = Batching(scheduler, BatchingOptions(), per_model=True)
    load = VersionLoader(LoadOptions(batching=batching), Metrics())
    assert isinstance(load("half", 1, str(path)).session, GraphSession)
    (path / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    session = load("half", 1, str(path)).session
    assert isinstance(session, BatchingSession)
    with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
        session.run({"serving_default_x:0": np.zeros(3, np.float32)}, ["y:0"])
    (path / "batching_params.pbtxt").write_text("max_batch_size { value: 0 }")
    with pytest.raises(ServingError, match="input_batch_size_limit must be positive"):
        load("half", 1, str(path))
