"""The gRPC channel to TensorFlow Serving: its options and its methods.

A channel is made after the fork of a worker and lives as long as the worker: one made before can
hang (grpc/grpc#41768), and one per call costs milliseconds.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import experimental

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import CallerGone, ModelFailed, ModelUnavailable
from gateway.model_client.failures import Unreachable
from gateway.model_client.messages import ModelSpec
from gateway.model_client.statuses import error_of
from gateway.model_client.tls import ClientTls

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
    # What `Connection.ask` stands on: the thread that asks is the one that waits.
    (experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
)


@dataclass(frozen=True)
class Question:
    """One call: the method's path, the request's bytes, what it is about, how long it may take.

    cancelled is set once nobody waits for the answer any more; a call that is asked ends then.
    """

    path: str
    request: bytes
    spec: ModelSpec
    deadline: Deadline
    cancelled: Cancellation = field(default_factory=Cancellation)

    def check(self) -> float:
        """Seconds that are left.

        Raises:
            CallerGone: nobody waits any more.
            DeadlineExceeded: no time is left.
        """
        self.check_caller()
        return self.deadline.check("prediction")

    def check_caller(self) -> None:
        """Go on only where somebody waits.

        Raises:
            CallerGone: nobody does any more.
        """
        if self.cancelled.is_set():
            raise CallerGone("The caller hung up while the model was asked.")


@dataclass(frozen=True)
class _Method:
    """The two ways to call one method: `single` is waited for where it is called."""

    single: Callable[..., Any]
    future: Callable[..., Any]


def _open(target: str, tls: ClientTls | None) -> Any:
    if tls is None:
        return grpc.insecure_channel(target, options=OPTIONS)
    contents = tls.contents
    credentials = grpc.ssl_channel_credentials(
        contents.authorities, contents.key, contents.certificate
    )
    # The name is checked where a server is called by its own address, too.
    options = (*OPTIONS, ("grpc.ssl_target_name_override", tls.server_name))
    return grpc.secure_channel(target, credentials, options=options)


def _method(channel: Any, path: str) -> _Method:
    return _Method(channel.unary_stream(path), channel.unary_unary(path).future)


class Connection:
    """One gRPC channel, made when it is first used. Messages go and come as bytes.

    Args:
        target: what to connect to, as gRPC writes it.
        tls: what encrypts it; nothing does where there is none.
    """

    def __init__(self, target: str, tls: ClientTls | None = None) -> None:
        self._target = target
        self._tls = tls
        self._channel: Any = None
        self._former: Any = None
        self._methods: dict[str, _Method] = {}
        self._failing = False
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, question: Question) -> bytes:
        """The answer's bytes.

        The call is made as if it could have several answers. gRPC lets a thread wait for one of
        those by itself and another thread cancel it; a future would cost a thread of gRPC's, and a
        plain call could not be cancelled.

        Raises:
            GatewayError: what `statuses.OUTCOMES` says.
            CallerGone: the caller hung up; the call has been cancelled.
        """
        seconds = question.check()
        call = self._begin(self._method(question.path).single, question.request, seconds)
        try:
            with question.cancelled.ending(call.cancel):
                answer: bytes | None = next(call, None)
                if answer is None or next(call, None) is not None:
                    raise ModelFailed(f"What answers for {question.spec} cannot predict.")
        except grpc.RpcError as error:
            failure = error_of(call.code(), call.details() or "", question.spec)
            self._failing = isinstance(failure, Unreachable)
            question.check_caller()
            raise failure from error
        finally:
            call.cancel()
        self._failing = False
        return answer

    def start(self, question: Question, seconds: float) -> Any:
        """Begin a call that somebody else waits for: a grpc.Future that is also the grpc.Call.

        Raises:
            ModelUnavailable: the connection has been closed.
        """
        return self._begin(self._method(question.path).future, question.request, seconds)

    def _method(self, path: str) -> _Method:
        with self._lock:
            if self._closed:
                raise ModelUnavailable("The gateway is stopping.")
            if self._channel is None:
                self._channel = _open(self._target, self._tls)
                self._methods = {path: _method(self._channel, path) for path in METHODS}
            return self._methods[path]

    def _begin(self, method: Callable[..., Any], request: bytes, seconds: float) -> Any:
        try:
            return method(request, timeout=seconds)
        except ValueError as error:  # closed just now
            raise ModelUnavailable("The gateway is stopping.", log_detail=str(error)) from error

    @property
    def failing(self) -> bool:
        """Whether the call that ended last met no server."""
        return self._failing

    def renew(self) -> None:
        """Let the next call begin on a channel of its own.

        A channel that could not resolve its name waits for up to two minutes before it asks again,
        which no option changes; a new one asks at once. One whose credentials were exchanged keeps
        the former ones. Calls that are under way keep theirs.
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
