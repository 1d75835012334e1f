"""What the server counts and times, and the page that Prometheus reads.

Names, labels and their order, buckets and the text's format are TensorFlow Serving's: `/` in a name
becomes `:`, there are no HELP lines, `{}` is always printed, times are microseconds, numbers have
six digits. A bucket counts what is smaller than its limit: what equals it is counted in the next.
`:tensorflow:core:*` and the load times by stage live in TensorFlow's runtime, where Python cannot
read them, so they are not on the page.
"""

import re
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

DEFAULT_PATH: Final = "/monitoring/prometheus/metrics"
CONTENT_TYPE: Final = "text/plain"

_SERVING: Final = "/tensorflow/serving/"
_BATCHING: Final = f"{_SERVING}batching_session/"
_RUNTIME: Final = "TF1"

Labels = tuple[str, ...]


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """The limits of `count` buckets, each `growth` times the one before; one more is endless."""
    limits = [scale]
    while len(limits) < count:
        limits.append(limits[-1] * growth)
    return tuple(limits)


_LATENCY: Final = exponential(10, 1.8, 33)
_QUEUING: Final = exponential(100, 1.2, 52)
_EXAMPLES: Final = exponential(1, 2, 15)
_BATCH_SIZES: Final = exponential(1, 2, 14)


@dataclass
class _Scalar:
    """A counter or gauge: one number for each combination of label values."""

    kind: str
    labels: Labels
    cells: dict[Labels, int] = field(default_factory=dict)

    def add(self, values: Labels, amount: int) -> None:
        self.cells[values] = self.cells.get(values, 0) + amount

    def lines(self, name: str) -> list[str]:
        return [
            f"{name}{{{_pairs(self.labels, values)}}} {number}"
            for values, number in sorted(self.cells.items())
        ]


@dataclass
class _Distribution:
    """The counts of a histogram's buckets, and the sum of all values."""

    counts: list[int]
    total: float = 0.0


@dataclass
class _Histogram:
    """A distribution for each combination of label values."""

    limits: tuple[float, ...]
    labels: Labels
    cells: dict[Labels, _Distribution] = field(default_factory=dict)
    kind: str = "histogram"

    def add(self, values: Labels, number: float) -> None:
        empty = _Distribution([0] * (len(self.limits) + 1))
        cell = self.cells.setdefault(values, empty)
        cell.counts[bisect_right(self.limits, number)] += 1
        cell.total += number

    def lines(self, name: str) -> list[str]:
        lines: list[str] = []
        for values, cell in sorted(self.cells.items()):
            pairs = _pairs(self.labels, values)
            lines += self._bucket_lines(f"{name}_bucket{{{pairs}{',' if pairs else ''}", cell)
            lines.append(f"{name}_sum{{{pairs}}} {cell.total:g}")
            lines.append(f"{name}_count{{{pairs}}} {sum(cell.counts)}")
        return lines

    def _bucket_lines(self, start: str, cell: _Distribution) -> list[str]:
        limits = [*(f"{limit:g}" for limit in self.limits), "+Inf"]
        total, lines = 0, []
        for limit, count in zip(limits, cell.counts, strict=True):
            total += count
            lines.append(f'{start}le="{limit}"}} {total}')
        return lines


def _pairs(labels: Sequence[str], values: Sequence[str]) -> str:
    written = (value.translate(_LABEL_ESCAPES) for value in values)
    return ",".join(f'{label}="{value}"' for label, value in zip(labels, written, strict=True))


_LABEL_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def _page_name(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", ":", name)


class Metrics:
    """Takes what happened, from any thread. Times are given in seconds and kept in microseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scalars = {
            f"{_SERVING}request_count": _Scalar("counter", ("model_name", "status")),
            f"{_SERVING}request_example_count_total": _Scalar("counter", ("model",)),
            f"{_SERVING}request_log_count": _Scalar("counter", ("model_name", "status_code")),
            f"{_SERVING}model_warmup_records_read": _Scalar("counter", ("model_path", "status")),
            f"{_BATCHING}wrapped_run_count": _Scalar("counter", ()),
            f"{_SERVING}mlmd_map": _Scalar("gauge", ("model_name", "version")),
            "/tensorflow/cc/saved_model/load_attempt_count": _Scalar(
                "counter", ("model_path", "status")
            ),
            "/tensorflow/cc/saved_model/load_latency": _Scalar("counter", ("model_path",)),
        }
        self._histograms = {
            f"{_SERVING}request_latency": _Histogram(_LATENCY, ("model_name", "API", "entrypoint")),
            f"{_SERVING}runtime_latency": _Histogram(_LATENCY, ("model_name", "API", "runtime")),
            f"{_SERVING}request_example_counts": _Histogram(_EXAMPLES, ("model",)),
            f"{_SERVING}model_warmup_latency": _Histogram(_LATENCY, ("model_path", "status")),
            f"{_BATCHING}queuing_latency": _Histogram(_QUEUING, ("thread_pool_name",)),
            f"{_BATCHING}padding_size": _Histogram(_BATCH_SIZES, ("execution_batch_size",)),
            f"{_BATCHING}input_batch_size": _Histogram(_BATCH_SIZES, ()),
            f"{_BATCHING}processed_batch_size": _Histogram(_BATCH_SIZES, ()),
            f"{_SERVING}saved_model_with_batching/queuing_latency": _Histogram(_QUEUING, ()),
        }

    def count_request(self, model: str, status: str) -> None:
        """A front answered a request with the code of this name, such as `OK`."""
        self._count(f"{_SERVING}request_count", (model, status))

    def observe_request_latency(
        self, model: str, api: str, entrypoint: str, seconds: float
    ) -> None:
        """A front answered with success: `Predict` and `GRPC`, or `predict` and `REST`."""
        self._time(f"{_SERVING}request_latency", (model, api, entrypoint), seconds)

    def observe_runtime_latency(self, model: str, api: str, seconds: float) -> None:
        """The session ran for one request."""
        self._time(f"{_SERVING}runtime_latency", (model, api, _RUNTIME), seconds)

    def observe_example_count(self, model: str, examples: int) -> None:
        """A request carried so many tf.Examples."""
        self._observe(f"{_SERVING}request_example_counts", (model,), examples)
        self._count(f"{_SERVING}request_example_count_total", (model,), examples)

    def observe_warmup(self, model_path: str, status: str, seconds: float, records: int) -> None:
        """A version's warm-up ended after this many records."""
        self._time(f"{_SERVING}model_warmup_latency", (model_path, status), seconds)
        self._count(f"{_SERVING}model_warmup_records_read", (model_path, status), records)

    def observe_load(self, model_path: str, status: str, seconds: float) -> None:
        """A try to load a SavedModel ended: `success` or `fail`."""
        loads = "/tensorflow/cc/saved_model/load_"
        self._count(f"{loads}attempt_count", (model_path, status))
        self._count(f"{loads}latency", (model_path,), round(seconds * 1e6))

    def publish_metadata_key(self, model: str, version: int) -> None:
        """A version carries a key of ML Metadata; the page has no place for the key itself."""
        self._count(f"{_SERVING}mlmd_map", (model, str(version)), 0)

    def observe_queuing(self, thread_pool: str, seconds: float) -> None:
        """A task waited this long in a batching queue."""
        self._time(f"{_BATCHING}queuing_latency", (thread_pool,), seconds)

    def observe_batch_input(self, size: int) -> None:
        """A call of this many examples was given to a batching queue."""
        self._observe(f"{_BATCHING}input_batch_size", (), size)

    def observe_batch(self, processed_size: int, padding_size: int) -> None:
        """A batch was merged: `padding_size` of its `processed_size` examples are padding."""
        self._observe(f"{_BATCHING}padding_size", (str(processed_size),), padding_size)
        self._observe(f"{_BATCHING}processed_batch_size", (), processed_size)

    def count_wrapped_run(self) -> None:
        """A merged batch ran in the session."""
        self._count(f"{_BATCHING}wrapped_run_count", ())

    def counter_value(self, name: str) -> int:
        """What the counter of this name stands at, such as `/tensorflow/serving/request_count`.

        Of a counter with labels, its first cell; 0 for a name that is no counter.
        """
        with self._lock:
            scalar = self._scalars.get(name)
            return next(iter(scalar.cells.values()), 0) if scalar else 0

    def text(self) -> str:
        """The page: every metric in the order of its name, with what it counted so far."""
        lines: list[str] = []
        with self._lock:
            for name, metric in sorted((self._scalars | self._histograms).items()):
                lines.append(f"# TYPE {_page_name(name)} {metric.kind}")
                lines += metric.lines(_page_name(name))
        return "\n".join(lines) + "\n"

    def _count(self, name: str, values: Labels, amount: int = 1) -> None:
        with self._lock:
            self._scalars[name].add(values, amount)

    def _observe(self, name: str, values: Labels, number: float) -> None:
        with self._lock:
            self._histograms[name].add(values, number)

    def _time(self, name: str, values: Labels, seconds: float) -> None:
        self._observe(name, values, int(seconds * 1e6))
