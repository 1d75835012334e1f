"""Runs of a graph on TensorFlow's runtime, with the runtime's own errors."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.python.client import pywrap_tf_session

from model.server.errors import ServingError

CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Session(Protocol):
    """Runs parts of one model's graph; a batching one may join several callers' runs."""

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout_seconds: float | None = None,
    ) -> list[Any]:
        """The values of the tensors `fetches` when those in `feeds` are given."""

    def close(self) -> None:
        """Give back what the model holds; no run may be under way."""


def from_tensorflow(error: Any) -> ServingError:
    """The runtime's status, with its text as it stands."""
    return ServingError(CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), error.message)


class GraphSession:
    """A TensorFlow session, called below `tf.compat.v1.Session.run`.

    `Session.run` checks feeds against the placeholders and adds Python's stack to the runtime's
    errors; TensorFlow Serving, which calls the C++ session, does neither. So the C call itself is
    made here, after the graph was handed to the session once.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._graph = session.graph
        self._outputs: dict[str, Any] = {}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout_seconds: float | None = None,
    ) -> list[Any]:
        """Run the graph up to `fetches`; a time-out stops the run with DEADLINE_EXCEEDED."""
        feed = {self._output(name, "FeedInputs"): value for name, value in feeds.items()}
        fetch = [self._output(name, "FetchOutputs") for name in fetches]
        return self._call(feed, fetch, [], timeout_seconds)

    def run_target(self, feeds: Mapping[str, np.ndarray], operation: str) -> None:
        """Run one operation that gives no value: a restore or an initialisation."""
        feed = {self._output(name, "FeedInputs"): value for name, value in feeds.items()}
        target = self._graph.get_operation_by_name(operation)._c_op
        self._call(feed, [], [target], None)

    def close(self) -> None:
        """Close the session and let its graph go."""
        self._outputs.clear()
        self._session.close()

    def _output(self, name: str, role: str) -> Any:
        output = self._outputs.get(name)
        if output is None:
            output = self._outputs[name] = self._find(name, role)
        return output

    def _find(self, name: str, role: str) -> Any:
        try:
            return self._graph.get_tensor_by_name(name)._as_tf_output()
        except (KeyError, ValueError) as error:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"{role} node {name}: not found"
            ) from error

    def _call(
        self,
        feed: dict[Any, np.ndarray],
        fetch: list[Any],
        targets: list[Any],
        timeout: float | None,
    ) -> list[Any]:
        options = _run_options(timeout)
        try:
            return list(
                pywrap_tf_session.TF_SessionRun_wrapper(
                    self._session._session, options, feed, fetch, targets, None
                )
            )
        except tf.errors.OpError as error:
            raise from_tensorflow(error) from None
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)


class TimedSession:
    """A session that keeps how long its last run took."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.seconds = 0.0

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout_seconds: float | None = None,
    ) -> list[Any]:
        """Run and time."""
        start = time.monotonic()
        try:
            return self._session.run(feeds, fetches, timeout_seconds)
        finally:
            self.seconds = time.monotonic() - start

    def close(self) -> None:
        """Close the session behind it."""
        self._session.close()


def open_session(graph: Any, config: Any) -> GraphSession:
    """A session of a finished graph."""
    session = tf.compat.v1.Session(graph=graph, config=config)
    session._extend_graph()
    return GraphSession(session)


def _run_options(timeout_seconds: float | None) -> Any:
    if timeout_seconds is None:
        return None
    # 0 milliseconds would mean no time-out at all.
    milliseconds = min(max(1, int(timeout_seconds * 1000)), 2**62)
    options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())
