"""What the gateway counts, right across its worker processes.

`python -m gateway` names a directory in PROMETHEUS_MULTIPROC_DIR before this module is imported;
then every process writes its numbers to files there and whoever is asked adds them up. Without the
variable, as in unit tests, one process counts in its own memory.

A label's value is always one of a known set or something that TensorFlow Serving said: never a
caller's text, which would let strangers fill the memory.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gateway import problem
from gateway.model_client.guards import State

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
OTHER = "other"


class ServerMetrics(Protocol):
    """What a listening address counts."""

    def refused(self, reason: str) -> None:
        """Count a refusal of the server's own; `reason` is a slug of ours."""

    def in_flight(self, requests: int) -> None:
        """Say how many requests are running or waiting in this worker."""

    def connections(self, opened: int) -> None:
        """Say how many connections this worker has."""


class Uncounted:
    """Counts nothing: for the address that the metrics themselves are read from."""

    def refused(self, reason: str) -> None:
        """Count nothing."""

    def in_flight(self, requests: int) -> None:
        """Count nothing."""

    def connections(self, opened: int) -> None:
        """Count nothing."""


class Metrics:
    """Every metric, made in a worker after it was forked.

    Args:
        models: the models that the settings name; others are counted as `other`.
    """

    def __init__(self, models: Iterable[str] = ()) -> None:
        self._models = frozenset(models)
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tensorgate_requests_total",
            "Predictions asked for, by outcome: ok, caller-gone or the kind of the error.",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self._stages = Histogram(
            "tensorgate_stage_seconds",
            "Time of a request's stages: queue, fetch, decode, predict.",
            ["stage", "model", "version"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._refused = Counter(
            "tensorgate_refused_total",
            "Requests that the server answered by itself, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.retries = Counter(
            "tensorgate_model_retries_total",
            "Calls to TensorFlow Serving that were repeated.",
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "tensorgate_in_flight",
            "Requests running or waiting for a thread.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._connections = Gauge(
            "tensorgate_connections",
            "Open connections of callers.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._api_keys_broken = Gauge(
            "tensorgate_api_keys_broken",
            "1 while API_KEYS_FILE is broken and the keys before it are used.",
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self._decode_children = Gauge(
            "tensorgate_decode_children",
            "Processes that decode pictures.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._decode_children_ended = Counter(
            "tensorgate_decode_children_ended_total",
            "Decode children that ended, by reason: deadline, caller-gone, replaced, died.",
            ["reason"],
            registry=self.registry,
        )

    def decode_children(self, alive: int) -> None:
        """Say how many decode children this worker has."""
        self._decode_children.set(alive)

    def decode_child_ended(self, reason: str) -> None:
        """Count a decode child that was killed, replaced or died."""
        self._decode_children_ended.labels(reason).inc()

    def api_keys_broken(self, broken: bool) -> None:
        """Say whether this worker goes on with older keys because their file is broken."""
        self._api_keys_broken.set(broken)

    def request(self, model: str, version: int | None, outcome: str) -> None:
        """Count a prediction; `outcome` is `ok`, `caller-gone` or the value of an error's Kind.

        `version` is the one that TensorFlow Serving said it used, and None where none answered.
        """
        self._requests.labels(self._known(model), _label(version), outcome).inc()

    def stage(self, stage: str, seconds: float, model: str, version: int | None) -> None:
        """Count the time of one stage of a prediction."""
        self._stages.labels(stage, self._known(model), _label(version)).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a refusal of the server's own; `reason` is a slug of ours."""
        self._refused.labels(reason).inc()

    def in_flight(self, requests: int) -> None:
        """Say how many requests are running or waiting in this worker."""
        self._in_flight.set(requests)

    def connections(self, opened: int) -> None:
        """Say how many connections this worker has."""
        self._connections.set(opened)

    def _known(self, model: str) -> str:
        return model if model in self._models else OTHER


def _label(version: int | None) -> str:
    return "" if version is None else str(version)


class MeasuredBudget(Protocol):
    """Memory for decoding that all workers share."""

    @property
    def total_bytes(self) -> int:
        """How much there is."""

    def in_use(self) -> int:
        """How much all workers together hold now."""


class _BudgetGauges(Collector):
    """The decode budget, read from the shared memory itself when somebody asks."""

    def __init__(self, budget: MeasuredBudget) -> None:
        self._budget = budget

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "tensorgate_decode_budget_bytes",
            "Memory that all workers together may use for decoding.",
            value=self._budget.total_bytes,
        )
        yield GaugeMetricFamily(
            "tensorgate_decode_budget_in_use_bytes",
            "Memory taken for decoding now.",
            value=self._budget.in_use(),
        )


class MeasuredCircuit(Protocol):
    """What ends calls of one model while nothing answers them, shared by all workers."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def state(self) -> State:
        """What it does now."""

    @property
    def times_opened(self) -> int:
        """How often it has opened."""


class _CircuitGauges(Collector):
    """The circuits, read from the shared memory itself when somebody asks."""

    def __init__(self, circuits: Sequence[MeasuredCircuit]) -> None:
        self._circuits = circuits

    def collect(self) -> Iterable[Metric]:
        states = GaugeMetricFamily(
            "tensorgate_model_circuit",
            "1 for the state that the model's circuit is in: closed, open or half-open.",
            labels=["model", "state"],
        )
        opened = CounterMetricFamily(
            "tensorgate_model_circuit_opened_total",
            "Times that the model's circuit has opened because nothing answered.",
            labels=["model"],
        )
        for circuit in self._circuits:
            now = circuit.state
            for state in State:
                states.add_metric([circuit.model, state.value], float(state is now))
            opened.add_metric([circuit.model], circuit.times_opened)
        return states, opened


class Exposition:
    """`GET /metrics` as a WSGI application: the numbers of all processes together.

    Args:
        metrics: this process's, which are all there are where no directory is named.
        budget: the decode budget, if there is one.
        circuits: the models', if there are any.
    """

    def __init__(
        self,
        metrics: Metrics,
        budget: MeasuredBudget | None = None,
        circuits: Sequence[MeasuredCircuit] = (),
    ) -> None:
        self._metrics = metrics
        self._budget = budget
        self._circuits = circuits

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> list[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] != "/metrics":
            return _answer_not_found(environ, start_response)
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        start_response("200 OK", [("Content-Type", content_type)])
        return [encode(self._collected())]

    def _collected(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(self._metrics.registry)
        if self._budget is not None:
            registry.register(_BudgetGauges(self._budget))
        if self._circuits:
            registry.register(_CircuitGauges(self._circuits))
        return registry


def _answer_not_found(
    environ: dict[str, Any], start_response: Callable[..., object]
) -> list[bytes]:
    detail = "There is nothing at this path; the metrics are at /metrics."
    document = problem.problem_of_status(404, detail, environ["tensorgate.request_id"])
    start_response("404 Not Found", [("Content-Type", problem.CONTENT_TYPE)])
    return [problem.encode(document)]


def forget_process(process_id: int) -> None:
    """Take the gauges of a worker that has ended out of the sums."""
    mark_process_dead(process_id)  # type: ignore[no-untyped-call]
