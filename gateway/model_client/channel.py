"""The gRPC channel to TensorFlow Serving: its options and its methods.

A channel is made after the fork of a worker and lives as long as the worker: one made before can
hang (grpc/grpc#41768), and one per call costs milliseconds.
"""

import json
import threading
from dataclasses import dataclass
from typing import Any

import grpc

from gateway.deadline import Deadline
from gateway.errors import CallerGone, ModelUnavailable
from gateway.model_client.messages import ModelSpec
from gateway.model_client.statuses import Unreachable, error_of

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
METHODS = (PREDICT, METADATA, STATUS)

MAX_REQUEST_BYTES = 256 * 1024 * 1024
"""The largest request; TensorFlow Serving itself takes up to 2 GiB."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer; gRPC's own default is 4 MiB."""

MAX_ERROR_BYTES = 256 * 1024
"""The longest error text, and whatever else an answer has in headers."""

CANCEL_INTERVAL = 0.1
"""Seconds between looks at whether the caller has hung up."""

OPTIONS = (
    (
        "grpc.service_config",
        json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}),
    ),
    ("grpc.service_config_disable_resolution", 1),
    # Addresses are asked for again when a connection ends; 30 s by default.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Calls are repeated by `retries.py` alone, whatever their size.
    ("grpc.enable_retries", 0),
    # The environment's HTTP proxy is not for the cluster's inside.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # Error texts come in headers; TensorFlow's can be longer than the 16 KiB that gRPC takes.
    ("grpc.max_metadata_size", MAX_ERROR_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_ERROR_BYTES),
    # A server that comes back is found again within about a second; 120 s by default. One attempt
    # to connect may take two.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A machine that vanished is noticed while calls wait for it. More pings than these make
    # TensorFlow Serving close the connection (too_many_pings).
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 2),
)


@dataclass(frozen=True)
class Question:
    """One call: the method's path, the request's bytes, what it is about, how long it may take.

    cancelled is set once nobody waits for the answer any more.
    """

    path: str
    request: bytes
    spec: ModelSpec
    deadline: Deadline
    cancelled: threading.Event | None = None

    def check(self) -> float:
        """Seconds that are left.

        Raises:
            CallerGone: nobody waits any more.
            DeadlineExceeded: no time is left.
        """
        if self.cancelled is not None and self.cancelled.is_set():
            raise CallerGone("The caller hung up while the model was asked.")
        return self.deadline.check("prediction")


class Connection:
    """One gRPC channel, made when it is first used. Messages go and come as bytes.

    Args:
        target: what to connect to, as gRPC writes it.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel: Any = None
        self._former: Any = None
        self._methods: dict[str, Any] = {}
        self._failing = False
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, question: Question) -> bytes:
        """The answer's bytes.

        Raises:
            GatewayError: what `statuses.OUTCOMES` says.
            CallerGone: the caller hung up; the call has been cancelled.
        """
        call = self.start(question.path, question.request, question.check())
        try:
            while True:
                try:
                    answer: bytes = call.result(timeout=CANCEL_INTERVAL)
                except grpc.FutureTimeoutError:
                    question.check()
                else:
                    self._failing = False
                    return answer
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            failure = error_of(call.code(), call.details() or "", question.spec)
            self._failing = isinstance(failure, Unreachable)
            raise failure from error
        finally:
            call.cancel()

    def start(self, path: str, request: bytes, seconds: float) -> Any:
        """Begin a call: a grpc.Future that is also the grpc.Call.

        Raises:
            ModelUnavailable: the connection has been closed.
        """
        with self._lock:
            if self._closed:
                raise ModelUnavailable("The gateway is stopping.")
            if self._channel is None:
                self._channel = grpc.insecure_channel(self._target, options=OPTIONS)
                self._methods = {path: self._channel.unary_unary(path) for path in METHODS}
            method = self._methods[path]
        try:
            return method.future(request, timeout=seconds)
        except ValueError as error:  # closed just now
            raise ModelUnavailable("The gateway is stopping.", log_detail=str(error)) from error

    @property
    def failing(self) -> bool:
        """Whether the call that ended last met no server."""
        return self._failing

    def renew(self) -> None:
        """Let the next call begin on a channel of its own.

        A channel that could not resolve its name waits for up to two minutes before it asks again,
        which no option changes; a new one asks at once. Calls that are under way keep theirs.
        """
        with self._lock:
            ended, self._former, self._channel = self._former, self._channel, None
            self._failing = False
        if ended is not None:
            ended.close()

    def close(self) -> None:
        """End every call and connection, for good."""
        with self._lock:
            self._closed = True
            for channel in (self._former, self._channel):
                if channel is not None:
                    channel.close()
