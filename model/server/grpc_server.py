"""The gRPC front: TensorFlow Serving's services on a ServerCore."""

import errno
import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from model.server.core import ServerCore
from model.server.errors import ServingError
from model.server.health import Health
from model.server.recorder import Recorder

log = logging.getLogger(__name__)

MAX_TEXT = 1024
TRUNCATED = "...TRUNCATED"
MAX_MESSAGE_BYTES = 2**31 - 1

CALLS_PER_THREAD = 16
"""How many calls may wait or run for each thread; more are refused with RESOURCE_EXHAUSTED."""


THREADS_PER_WATCH = 4
"""A watch of the health service holds a thread, so only one in so many may be held."""

FOREVER_SECONDS = 365 * 24 * 3600.0
"""gRPC gives a call without a deadline one that is centuries away."""


@dataclass(frozen=True)
class GrpcOptions:
    """Where and how to listen."""

    addresses: tuple[str, ...]
    threads: int
    arguments: tuple[tuple[str, Any], ...] = ()
    credentials: grpc.ServerCredentials | None = None
    health: bool = False


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """tensorflow.serving.PredictionService; the first three calls are counted and timed."""

    def __init__(self, core: ServerCore, recorder: Recorder) -> None:
        self._core = core
        self._recorder = recorder

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run one signature on tensors."""
        return self._counted("Predict", self._core.predict, request, context)

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run a classify signature on examples."""
        return self._counted("Classify", self._core.classify, request, context)

    def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run a regress signature on examples."""
        return self._counted("Regress", self._core.regress, request, context)

    def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run several signatures on the same examples."""
        return answer(self._core.multi_inference, request, context)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer a version's signatures."""
        return answer(lambda asked, _: self._core.get_model_metadata(asked), request, context)

    def _counted(self, api: str, call: Callable[..., Any], request: Any, context: Any) -> Any:
        start, status, name = time.monotonic(), "UNKNOWN", request.model_spec.name
        try:
            response = answer(call, request, context)
            status = "OK"
            elapsed = time.monotonic() - start
            self._recorder.observe_request_latency(name, api, "GRPC", elapsed)
            return response
        except Exception:
            code = context.code()
            status = code.name if code is not None else status
            raise
        finally:
            self._recorder.count_request(name, status)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """tensorflow.serving.ModelService."""

    def __init__(self, core: ServerCore) -> None:
        self._core = core

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer the state of a model's versions."""
        return answer(lambda asked, _: self._core.get_model_status(asked), request, context)

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Replace the set of models."""
        return answer(self._core.handle_reload_config_request, request, context)


class GrpcServer:
    """The listening server."""

    def __init__(self, core: ServerCore, recorder: Recorder, options: GrpcOptions) -> None:
        self._options = options
        self._health = Health(max_watches=max(1, options.threads // THREADS_PER_WATCH))
        self._server = grpc.server(
            ThreadPoolExecutor(options.threads, thread_name_prefix="grpc"),
            options=_arguments(options),
            maximum_concurrent_rpcs=options.threads * CALLS_PER_THREAD,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(core, recorder), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), self._server)
        if options.health:
            self._server.add_generic_rpc_handlers((self._health.handler(),))

    def start(self) -> list[int]:
        """Listen and answer; the port of each address, in their order.

        Raises:
            ServingError: INVALID_ARGUMENT, an address cannot be had.
        """
        ports = [self._listen(address) for address in self._options.addresses]
        self._server.start()
        return ports

    def stop(self, grace_seconds: float) -> None:
        """Take no new call; return when those under way have ended or the time is over."""
        self._health.stop()
        self._server.stop(grace_seconds).wait()

    def _listen(self, address: str) -> int:
        credentials = self._options.credentials
        if taken(address):
            raise _refusal(f"{address} is taken: stop what has it, or choose another --port")
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise _refusal(f"{address} cannot be listened on, as said above") from error


def taken(address: str) -> bool:
    """Whether another process has a TCP port: known before gRPC writes a line of its own about it.

    What else keeps gRPC from listening is left to it, and its line says what.
    """
    if address.startswith("unix:"):
        return False
    host, _, port = address.rpartition(":")
    try:
        with socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), int(port)))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _refusal(reason: str) -> ServingError:
    return ServingError(
        grpc.StatusCode.INVALID_ARGUMENT, f"Failed to BuildAndStart gRPC server: {reason}"
    )


def answer(call: Callable[[Any, float | None], Any], request: Any, context: Any) -> Any:
    """Call the core with the time that is left, and turn its error into a gRPC status."""
    timeout = context.time_remaining()
    if timeout is not None and timeout > FOREVER_SECONDS:
        timeout = None
    if timeout is not None and timeout <= 0:
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    try:
        return call(request, timeout)
    except ServingError as error:
        log.debug("%s failed: %s", context, error)
        context.abort(error.code, shortened(error.message))
    except Exception:
        log.exception("A call failed for a reason that is not its own")
        context.abort(grpc.StatusCode.INTERNAL, "The server failed; its log says why.")


def shortened(text: str) -> str:
    """The text as gRPC carries it: 1024 bytes, and a mark where more was cut."""
    encoded = text.encode()
    if len(encoded) <= MAX_TEXT:
        return text
    return encoded[:MAX_TEXT].decode("utf-8", "ignore") + TRUNCATED


def channel_arguments(text: str) -> tuple[tuple[str, Any], ...]:
    """The pairs of `key=value,…`; a value that is a whole number is one.

    Raises:
        ServingError: INVALID_ARGUMENT, a pair has no `=`.
    """
    pairs: list[tuple[str, Any]] = []
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"--grpc_channel_arguments: {pair!r} is not key=value",
            )
        try:
            pairs.append((key, int(value)))
        except ValueError:
            pairs.append((key, value))
    return tuple(pairs)


def _arguments(options: GrpcOptions) -> list[tuple[str, Any]]:
    """Ours first: of an argument given twice, gRPC takes the last."""
    ours = {
        "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
        "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
        # Two servers on one port would share its callers unseen.
        "grpc.so_reuseport": 0,
    }
    return list({**ours, **dict(options.arguments)}.items())
