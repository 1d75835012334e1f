"""Makes the server's parts from the flags: the one place that chooses the real ones."""

from dataclasses import dataclass
from typing import Any

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow_serving.config import model_server_config_pb2

from model.server import config
from model.server.batching import BatchScheduler
from model.server.batching_parameters import batching_options
from model.server.core import CoreOptions, ServerCore
from model.server.errors import invalid
from model.server.flags import CPUS, Flags
from model.server.grpc_server import GrpcOptions, GrpcServer, channel_arguments
from model.server.manager import LoadPolicy
from model.server.messages import new_message
from model.server.metrics import DEFAULT_PATH, Metrics
from model.server.predict import PredictOptions
from model.server.rest import RestServer
from model.server.version_loader import Batching, LoadOptions, VersionLoader


@dataclass(frozen=True)
class Parts:
    """What `main` starts and stops. `rest` is None when REST is off."""

    scheduler: BatchScheduler | None
    core: ServerCore
    grpc: GrpcServer
    rest: RestServer | None


def assemble(flags: Flags) -> Parts:
    """Make all parts; nothing is loaded and no port is open yet.

    Raises:
        ServingError: flags or files contradict each other or cannot be read.
    """
    _check(flags)
    metrics = Metrics()
    predict = PredictOptions(
        check_method_names=flags.enable_signature_method_name_check,
        outputs_as_content=flags.enable_serialization_as_tensor_content,
    )
    batching = _batching(flags)
    load_options = LoadOptions(
        tags=tuple(flags.saved_model_tags.split(",")),
        session_config=session_config(flags),
        batching=batching,
        warm_up=flags.enable_model_warmup,
        warm_up_iterations=flags.num_request_iterations_for_warmup,
        predict=predict,
    )
    core = ServerCore(VersionLoader(load_options, metrics), metrics, _core_options(flags, predict))
    return Parts(
        scheduler=batching.scheduler if batching else None,
        core=core,
        grpc=GrpcServer(core, metrics, _grpc_options(flags)),
        rest=_rest(flags, core, metrics),
    )


def models_config(flags: Flags) -> Any:
    """The ModelServerConfig of the file, or of the one model that the flags name."""
    if not flags.model_config_file:
        return config.single_model(flags.model_name, flags.model_base_path)
    return config.read_text_proto(
        flags.model_config_file, model_server_config_pb2.ModelServerConfig()
    )


def session_config(flags: Flags) -> Any:
    """The ConfigProto of each model's session."""
    proto = tf.compat.v1.ConfigProto()
    if flags.tensorflow_session_config_file:
        config.read_text_proto(flags.tensorflow_session_config_file, proto)
    proto.gpu_options.per_process_gpu_memory_fraction = flags.per_process_gpu_memory_fraction
    within, between = flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism
    if within <= 0 and between <= 0:
        within = between = flags.tensorflow_session_parallelism
    proto.intra_op_parallelism_threads = within
    proto.inter_op_parallelism_threads = between
    if flags.mixed_precision == "bfloat16":
        rewrites = proto.graph_options.rewrite_options
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    return proto


def _check(flags: Flags) -> None:
    if not flags.model_base_path and not flags.model_config_file:
        invalid(
            "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )
    if flags.use_alts_credentials and flags.ssl_config_file:
        invalid("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    if flags.batching_parameters_file and not flags.enable_batching:
        invalid(
            "server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true."
        )
    parallelisms = (
        flags.tensorflow_intra_op_parallelism,
        flags.tensorflow_inter_op_parallelism,
        flags.tensorflow_session_parallelism,
    )
    if all(number > 0 for number in parallelisms):
        invalid(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, "
            "server_options.tensorflow_inter_op_parallelism) separately. "
            "You cannot configure all."
        )


def _core_options(flags: Flags, predict: PredictOptions) -> CoreOptions:
    return CoreOptions(
        poll_seconds=flags.file_system_poll_wait_seconds,
        load_policy=LoadPolicy(
            max_retries=flags.max_num_load_retries,
            retry_seconds=flags.load_retry_interval_micros / 1e6,
            load_threads=flags.num_load_threads,
            unload_threads=flags.num_unload_threads,
        ),
        predict=predict,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
    )


def _batching(flags: Flags) -> Batching | None:
    if not flags.enable_batching:
        return None
    parameters = new_message("BatchingParameters")
    name = "model_server_batch_threads"
    if flags.batching_parameters_file:
        config.read_text_proto(flags.batching_parameters_file, parameters)
        name = "batch_threads"
    if parameters.HasField("thread_pool_name"):
        name = parameters.thread_pool_name.value
    threads = CPUS
    if parameters.HasField("num_batch_threads"):
        threads = parameters.num_batch_threads.value
    return Batching(
        scheduler=BatchScheduler(name, threads),
        options=batching_options(parameters),
        per_model=flags.enable_per_model_batching_parameters,
    )


def _grpc_options(flags: Flags) -> GrpcOptions:
    addresses = [f"{_bracketed(flags.host)}:{flags.port}"]
    if flags.grpc_socket_path:
        addresses.append(f"unix:{flags.grpc_socket_path}")
    return GrpcOptions(
        addresses=tuple(addresses),
        threads=flags.grpc_max_threads,
        arguments=channel_arguments(flags.grpc_channel_arguments),
        credentials=_credentials(flags),
        health=flags.enable_grpc_healthcheck_service,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _credentials(flags: Flags) -> grpc.ServerCredentials | None:
    if flags.use_alts_credentials:
        return grpc.alts_server_credentials()
    if not flags.ssl_config_file:
        return None
    ssl = config.read_text_proto(flags.ssl_config_file, new_message("SSLConfig"))
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )


def _rest(flags: Flags, core: ServerCore, metrics: Metrics) -> RestServer | None:
    if not flags.rest_api_port:
        return None
    if flags.rest_api_port == flags.port:
        invalid("--rest_api_port cannot be the same as --port.")
    return RestServer(
        core,
        metrics,
        flags.host,
        flags.rest_api_port,
        threads=flags.rest_api_num_threads,
        timeout_seconds=flags.rest_api_timeout_in_ms / 1000,
        cors=flags.rest_api_enable_cors_support,
        monitoring_path=_monitoring_path(flags),
    )


def _monitoring_path(flags: Flags) -> str | None:
    """Where Prometheus reads, on the REST port; None, nowhere."""
    if not flags.monitoring_config_file:
        return None
    monitoring = config.read_text_proto(
        flags.monitoring_config_file, new_message("MonitoringConfig")
    )
    prometheus = monitoring.prometheus_config
    return (prometheus.path or DEFAULT_PATH) if prometheus.enable else None
