"""The flags of `tensorflow_model_server`, with its names, defaults and syntax."""

import os
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class FlagError(Exception):
    """The command line is wrong; the message is one sentence."""


def _flag(default: Any, sentence: str) -> Any:
    return field(default=default, metadata={"help": sentence})


@dataclass(frozen=True)
class Flags:
    """Every flag: its type, its default and a sentence."""

    port: int = _flag(8500, "TCP port for gRPC; 0 takes a free one, which the log names.")
    grpc_socket_path: str = _flag("", "UNIX socket for gRPC, beside the port.")
    rest_api_port: int = _flag(0, "TCP port for REST; 0 leaves REST off.")
    rest_api_num_threads: int = _flag(4 * CPUS, "Threads for REST.")
    rest_api_timeout_in_ms: int = _flag(30000, "Time-out of a REST request.")
    rest_api_enable_cors_support: bool = _flag(False, "Send CORS headers.")
    enable_batching: bool = _flag(False, "Join requests into batches.")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "Allow labels, not in use yet, on versions that are not available."
    )
    batching_parameters_file: str = _flag("", "Text file of a BatchingParameters.")
    enable_per_model_batching_parameters: bool = _flag(
        False, "Read batching_params.pbtxt in each version's directory."
    )
    model_config_file: str = _flag("", "Text file of a ModelServerConfig.")
    model_config_file_poll_wait_seconds: int = _flag(
        0, "Seconds between looks at the model config file; 0 reads it once."
    )
    model_name: str = _flag("default", "Name of the model, without a config file.")
    model_base_path: str = _flag("", "Directory of the model's versions, without a config file.")
    num_load_threads: int = _flag(0, "Versions loaded at once; 0 is one after another.")
    num_unload_threads: int = _flag(0, "Versions unloaded at once; 0 is one after another.")
    max_num_load_retries: int = _flag(5, "Tries to load a version after the first one failed.")
    load_retry_interval_micros: int = _flag(60_000_000, "Time between these tries.")
    file_system_poll_wait_seconds: int = _flag(
        1, "Seconds between looks for versions; 0 looks once, below 0 never."
    )
    flush_filesystem_caches: bool = _flag(True, "Accepted; Python's runtime keeps no such cache.")
    tensorflow_session_parallelism: int = _flag(0, "Threads of a session, of both kinds.")
    tensorflow_session_config_file: str = _flag("", "Text file of a ConfigProto.")
    tensorflow_intra_op_parallelism: int = _flag(0, "Threads within an operation.")
    tensorflow_inter_op_parallelism: int = _flag(0, "Operations at once.")
    use_alts_credentials: bool = _flag(False, "Google's ALTS for gRPC.")
    ssl_config_file: str = _flag("", "Text file of an SSLConfig, for gRPC.")
    platform_config_file: str = _flag("", "Text file of a PlatformConfigMap.")
    per_process_gpu_memory_fraction: float = _flag(0.0, "Share of each GPU's memory; 0 is all.")
    saved_model_tags: str = _flag("serve", "Tags of the graph to load, with commas.")
    grpc_channel_arguments: str = _flag("", "key=value,… for the gRPC server.")
    grpc_max_threads: int = _flag(4 * CPUS, "Threads that answer gRPC.")
    enable_model_warmup: bool = _flag(True, "Replay a version's warm-up requests.")
    num_request_iterations_for_warmup: int = _flag(0, "How often each is replayed, above 0.")
    version: bool = _flag(False, "Print the versions and end.")
    monitoring_config_file: str = _flag("", "Text file of a MonitoringConfig.")
    remove_unused_fields_from_bundle_metagraph: bool = _flag(
        True, "Accepted; only signatures are kept in any case."
    )
    prefer_tflite_model: bool = _flag(False, "Serve model.tflite where there is one.")
    num_tflite_pools: int = _flag(CPUS, "Pools of TensorFlow Lite interpreters.")
    num_tflite_interpreters_per_pool: int = _flag(1, "TensorFlow Lite interpreters in a pool.")
    enable_signature_method_name_check: bool = _flag(False, "Check signatures' method names.")
    xla_cpu_compilation_enabled: bool = _flag(False, "Accepted; XLA compiles for CPUs anyway.")
    xla_gpu_compilation_enabled: bool = _flag(False, "Accepted; XLA compiles for GPUs anyway.")
    enable_profiler: bool = _flag(True, "The profiler's service on the gRPC port.")
    thread_pool_factory_config_file: str = _flag("", "Text file of a ThreadPoolFactoryConfig.")
    mixed_precision: str = _flag("", "bfloat16 computes with it where the CPU can.")
    skip_initialize_tpu: bool = _flag(False, "Accepted; there is no TPU to initialise.")
    enable_grpc_healthcheck_service: bool = _flag(False, "Serve grpc.health.v1.Health.")
    enable_serialization_as_tensor_content: bool = _flag(
        False, "Answer Predict in tensor_content instead of the repeated fields."
    )
    host: str = _flag("0.0.0.0", "Ours: the address to listen on.")  # noqa: S104
    ignore_sigterm: bool = _flag(False, "Ours: do nothing at SIGTERM, as the official server.")


USAGE = """\
usage: python -m model.server --model_name=NAME --model_base_path=FOLDER [flags]

A value follows = or the flag; a boolean is true alone. Flags with defaults:
"""

OURS = frozenset({"host", "ignore_sigterm"})
"""Flags that the official server does not have."""

REFUSED = {
    "platform_config_file": "it configures C++ source adapters, which Python's runtime lacks",
    "prefer_tflite_model": "TensorFlow Lite models are not served",
    "num_tflite_pools": "TensorFlow Lite models are not served",
    "num_tflite_interpreters_per_pool": "TensorFlow Lite models are not served",
    "enable_profiler": "Python's runtime cannot register the profiler on the gRPC port",
    "thread_pool_factory_config_file": "Python's runtime takes no thread pool factory",
}
"""What Python's runtime cannot do, and why; giving such a flag a working value stops the start."""

WITHOUT_EFFECT = {"num_tflite_interpreters_per_pool": 1, "enable_profiler": False}
"""The value of a refused flag that asks for nothing, where that is not an empty one."""


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Read `--flag=value`, `--flag value` and, for booleans, `--flag`.

    Raises:
        FlagError: an unknown flag, a value of the wrong type, or one that is refused.
    """
    known = {entry.name: entry for entry in fields(Flags)}
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        name, text = _split(rest, known)
        values[name] = _value(known[name], text)
        _refuse(name, values[name])
    return Flags(**values)


def usage() -> str:
    """Every flag with its default, and its sentence on the line after: many names are long."""
    lines = [
        f"  --{entry.name}={_written(default_of(entry))}\n      {entry.metadata['help']}"
        for entry in fields(Flags)
    ]
    return "\n".join([USAGE, *lines])


def default_of(entry: "Field[Any]") -> Any:
    """A flag's default."""
    return entry.default


def _split(rest: list[str], known: dict[str, Any]) -> tuple[str, str | None]:
    """Take one flag off the front, with its value if it has one."""
    argument = rest.pop(0)
    name, equals, text = argument.removeprefix("--").partition("=")
    if not argument.startswith("--") or name not in known:
        raise FlagError(f"unknown argument: {argument}")
    if equals or known[name].type is bool:
        return name, text if equals else None
    if not rest or rest[0].startswith("--"):
        raise FlagError(f"--{name} needs a value: --{name}=…")
    return name, rest.pop(0)


def _value(entry: "Field[Any]", text: str | None) -> Any:
    kind = entry.type
    if kind is bool:
        return _truth(entry.name, text)
    try:
        return kind(text) if callable(kind) else text
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise FlagError(f"--{entry.name} must be {wanted}, not {text!r}") from error


def _truth(name: str, text: str | None) -> bool:
    if text is None or text.lower() in {"", "true", "1"}:
        return True
    if text.lower() in {"false", "0"}:
        return False
    raise FlagError(f"--{name} must be true or false, not {text!r}")


def _refuse(name: str, value: Any) -> None:
    if name in REFUSED and value != WITHOUT_EFFECT.get(name, type(value)()):
        raise FlagError(f"--{name}={_written(value)} cannot be had here: {REFUSED[name]}")


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
