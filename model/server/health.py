"""grpc.health.v1.Health, without its generated code.

Its two messages have one field each, so the well-known wrappers have the same bytes:
`HealthCheckRequest{string service = 1}` is a StringValue, `HealthCheckResponse{ServingStatus
status = 1}` an Int32Value.
"""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import wrappers_pb2

SERVICE = "grpc.health.v1.Health"

SERVING = 1
NOT_SERVING = 2
SERVICE_UNKNOWN = 3

NAMES = ("", "ModelService", "PredictionService")
"""The names that the official server sets: short, without their package."""

WATCH_SECONDS = 1.0
"""How often a watch looks whether its caller is still there, should it not be told."""


class Health:
    """The state of the services; serving until `stop`.

    A watch holds one of the server's threads for as long as it lasts, so that only `max_watches`
    may be open at once; a further one is refused with RESOURCE_EXHAUSTED.
    """

    def __init__(self, max_watches: int) -> None:
        self._watches = threading.BoundedSemaphore(max_watches)
        self._changed = threading.Condition()
        self._statuses = dict.fromkeys(NAMES, SERVING)

    def stop(self) -> None:
        """Answer NOT_SERVING from now on, and end all watches."""
        with self._changed:
            self._statuses = dict.fromkeys(NAMES, NOT_SERVING)
            self._changed.notify_all()

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, to be added to a server."""
        read, write = wrappers_pb2.StringValue.FromString, _serialize
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, read, write),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, read, write),
            },
        )

    def _check(self, request: Any, context: Any) -> Any:
        status = self._statuses.get(request.value)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return wrappers_pb2.Int32Value(value=status)

    def _watch(self, request: Any, context: Any) -> Iterator[Any]:
        if not self._watches.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many watches are open.")
        try:
            context.add_callback(self._wake)
            yield from self._changes(request, context)
        finally:
            self._watches.release()

    def _wake(self) -> None:
        """A caller has gone."""
        with self._changed:
            self._changed.notify_all()

    def _changes(self, request: Any, context: Any) -> Iterator[Any]:
        sent: int | None = None
        while context.is_active():
            with self._changed:
                status = self._statuses.get(request.value, SERVICE_UNKNOWN)
                if status == sent:
                    self._changed.wait(WATCH_SECONDS)
                    continue
            yield wrappers_pb2.Int32Value(value=status)
            sent = status
            if status == NOT_SERVING:
                return


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())
