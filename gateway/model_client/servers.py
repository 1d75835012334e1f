"""Each server behind the target, asked by its own address rather than in turn.

While a model is rolled out, servers behind one name have different versions, and a balanced call
may meet the one that lacks what it names.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import grpc

from gateway.errors import (
    DeadlineExceeded,
    GatewayError,
    ModelNotFound,
    ModelUnavailable,
)
from gateway.model_client.addresses import Address, join_address, target_uri
from gateway.model_client.channel import METADATA, Connection, Question
from gateway.model_client.failures import Unreachable
from gateway.model_client.messages import metadata_request
from gateway.model_client.statuses import error_of
from gateway.model_client.tls import ClientTls

IDLE_SECONDS = 60.0
"""For so long is the connection to an address kept after its last call."""

CANCEL_INTERVAL = 0.1
"""Seconds between looks at whether the caller has hung up."""

ANSWER_SECONDS = 3.0
"""A server that takes longer over a small question counts as out of reach."""


class Servers:
    """Connections by address, shared by threads; one that is not used is closed.

    Args:
        tls: what encrypts them; nothing does where there is none.
    """

    def __init__(self, tls: ClientTls | None = None) -> None:
        self._tls = tls
        self._connections: dict[Address, Connection] = {}
        self._users: dict[Address, int] = {}
        self._used_at: dict[Address, float] = {}
        self._closed = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def hold(self, addresses: Sequence[Address]) -> Iterator[dict[Address, Connection]]:
        """A connection to each address, none of which is closed as idle meanwhile.

        Raises:
            ModelUnavailable: they have been closed for good.
        """
        with self._lock:
            if self._closed:
                raise ModelUnavailable("The gateway is stopping.")
            self._close_idle()
            for address in addresses:
                if address not in self._connections:
                    self._connections[address] = Connection(target_uri([address]), self._tls)
                self._users[address] = self._users.get(address, 0) + 1
            held = {address: self._connections[address] for address in addresses}
        try:
            yield held
        finally:
            with self._lock:
                for address in addresses:
                    self._users[address] -= 1
                    self._used_at[address] = time.monotonic()

    def renew(self) -> None:
        """Let the next call of each address begin on a connection of its own."""
        with self._lock:
            for connection in self._connections.values():
                connection.renew()

    def close(self) -> None:
        """End every call and connection, for good."""
        with self._lock:
            self._closed = True
            for connection in self._connections.values():
                connection.close()

    def _close_idle(self) -> None:
        long_ago = time.monotonic() - IDLE_SECONDS
        for address, used_at in list(self._used_at.items()):
            if not self._users[address] and used_at < long_ago:
                self._connections.pop(address).close()
                del self._users[address], self._used_at[address]


def find_owner(
    connections: Mapping[Address, Connection],
    question: Question,
    is_spare: Callable[[Address], bool],
) -> tuple[Connection, bytes]:
    """A server that has the version which the question is about, and its metadata's bytes.

    Args:
        connections: to all servers; each one is asked.
        question: what is to be asked of the owner.
        is_spare: whether a server need not listen at an address.

    Raises:
        ModelNotFound: no server has it.
        ModelUnavailable: one that may have it cannot be reached.
    """
    failures = []
    looking = replace(question, path=METADATA, request=metadata_request(question.spec))
    with contextlib.closing(ask_each(connections, looking)) as calls:
        for address, call in calls:
            if call.code() is grpc.StatusCode.OK:
                return connections[address], call.result()
            failures.append((address, call))
    raise common_error(failures, question, is_spare)


def ask_each(
    connections: Mapping[Address, Connection], question: Question
) -> Generator[tuple[Address, Any], None, None]:
    """Ask all servers at once; each one's call, in the order in which they finish.

    Calls that have not finished are cancelled when the iteration ends.

    Raises:
        CallerGone: the caller hung up.
        DeadlineExceeded: the time is up.
    """
    finished: queue.SimpleQueue[tuple[Address, Any]] = queue.SimpleQueue()
    seconds = min(question.check(), ANSWER_SECONDS)
    calls = []
    try:
        for address, connection in connections.items():
            call = connection.start(question, seconds)
            calls.append(call)
            call.add_done_callback(partial(_put, finished, address))
        for _ in calls:
            yield _next(finished, question)
    finally:
        for call in calls:
            call.cancel()


def _put(finished: "queue.SimpleQueue[tuple[Address, Any]]", address: Address, call: Any) -> None:
    finished.put((address, call))


def _next(
    finished: "queue.SimpleQueue[tuple[Address, Any]]", question: Question
) -> tuple[Address, Any]:
    while True:
        with contextlib.suppress(queue.Empty):
            return finished.get(timeout=CANCEL_INTERVAL)
        question.check()


def common_error(
    failures: Sequence[tuple[Address, Any]],
    question: Question,
    is_spare: Callable[[Address], bool],
) -> GatewayError:
    """What it means that each server failed: not found only when all of them say so."""
    question.check()
    errors = {
        address: error_of(call.code(), call.details() or "", question.spec)
        for address, call in failures
    }
    absent = [error for error in errors.values() if isinstance(error, ModelNotFound)]
    others = {
        address: error
        for address, error in errors.items()
        if not isinstance(error, ModelNotFound)
        and not (absent and isinstance(error, Unreachable) and is_spare(address))
    }
    if not others:
        return absent[0]
    for error in others.values():
        if not isinstance(error, (Unreachable, DeadlineExceeded)):
            return error
    lacking = f"Not every server that may have {question.spec} can be reached."
    silent = f"TensorFlow Serving cannot be reached for {question.spec}."
    return ModelUnavailable(
        lacking if absent else silent,
        log_detail="; ".join(
            f"{join_address(address)} {error.log_detail}" for address, error in others.items()
        ),
        retry_after=1,
    )
