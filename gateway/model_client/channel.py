"""The gRPC channel to TensorFlow Serving: its target, its options, its methods.

A channel is made after the fork of a worker and lives as long as the worker: one made before can
hang (grpc/grpc#41768), and one per call costs milliseconds.
"""

import ipaddress
import json
import threading
from collections.abc import Sequence
from typing import Any

import grpc

from gateway.errors import CallerGone

Address = tuple[str, int]
"""A host, name or IP address without brackets, and a port."""

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
METHODS = (PREDICT, METADATA, STATUS)

MAX_REQUEST_BYTES = 256 * 1024 * 1024
"""The largest request; TensorFlow Serving itself takes up to 2 GiB."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer; gRPC's own default is 4 MiB."""

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
    # Tries are repeated by `client.py` alone, whatever the request's size.
    ("grpc.enable_retries", 0),
    # The environment's HTTP proxy is not for the cluster's inside.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # A server that comes back is found again within seconds; 120 s by default.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # A machine that vanished is noticed while calls wait for it. More pings than these make
    # TensorFlow Serving close the connection (too_many_pings).
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 2),
)


def target_uri(addresses: Sequence[Address]) -> str:
    """What gRPC is told to connect to.

    One name is resolved by DNS, again and again; a list is of IP addresses of one family.

    Raises:
        ValueError: gRPC cannot balance over these addresses.
    """
    families = {_family(host) for host, _ in addresses}
    if len(addresses) == 1 and families == {"dns"}:
        return f"dns:///{addresses[0][0]}:{addresses[0][1]}"
    if not addresses or len(families) > 1 or families == {"dns"}:
        raise ValueError("several model servers must be given as IP addresses of one family")
    return f"{families.pop()}:" + ",".join(map(join_address, addresses))


def _family(host: str) -> str:
    try:
        return f"ipv{ipaddress.ip_address(host).version}"
    except ValueError:
        return "dns"


def join_address(address: Address) -> str:
    """host:port, an IPv6 address in square brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Connection:
    """One gRPC channel and the methods called over it. Messages go and come as bytes."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target, options=OPTIONS)
        self._methods = {path: self._channel.unary_unary(path) for path in METHODS}

    def start(self, path: str, request: bytes, seconds: float) -> Any:
        """Begin a call: a grpc.Future that is also the grpc.Call."""
        return self._methods[path].future(request, timeout=seconds)

    def close(self) -> None:
        """End every call and connection."""
        self._channel.close()


def wait(call: Any, cancelled: threading.Event | None) -> bytes:
    """The call's answer.

    Raises:
        CallerGone: cancelled was set; the call has been cancelled.
        grpc.RpcError: the call failed.
    """
    if cancelled is None:
        answer: bytes = call.result()
        return answer
    while not cancelled.is_set():
        try:
            answer = call.result(timeout=CANCEL_INTERVAL)
        except grpc.FutureTimeoutError:
            continue
        return answer
    call.cancel()
    raise CallerGone("The caller hung up while the model was asked.")
