"""BatchingParameters: how calls are joined, checked once."""

from dataclasses import dataclass
from typing import Any

from model.server.errors import invalid

DEFAULT_MAX_BATCH_SIZE = 1000
DEFAULT_MAX_ENQUEUED_BATCHES = 10


@dataclass(frozen=True)
class BatchingOptions:
    """The options of one model's queues."""

    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE
    timeout_seconds: float = 0.0
    max_enqueued: int = DEFAULT_MAX_ENQUEUED_BATCHES
    allowed_sizes: tuple[int, ...] = ()
    pad_lengths: bool = False
    split_large: bool = False
    max_execution_size: int | None = None

    @property
    def execution_size(self) -> int:
        """The largest batch that is run; smaller than the largest call only with splitting."""
        if self.split_large and self.max_execution_size is not None:
            return self.max_execution_size
        return self.max_batch_size

    def padded_size(self, size: int) -> int:
        """The smallest allowed size that holds `size` rows; itself, where none is given."""
        return next((allowed for allowed in self.allowed_sizes if allowed >= size), size)


def batching_options(parameters: Any) -> BatchingOptions:
    """The options that a BatchingParameters message gives.

    Raises:
        ServingError: INVALID_ARGUMENT, they contradict each other.
    """
    split_large = bool(_value(parameters, "enable_large_batch_splitting", 0))
    max_enqueued = _value(parameters, "max_enqueued_batches", DEFAULT_MAX_ENQUEUED_BATCHES)
    options = BatchingOptions(
        max_batch_size=_value(parameters, "max_batch_size", DEFAULT_MAX_BATCH_SIZE),
        timeout_seconds=_value(parameters, "batch_timeout_micros", 0) / 1e6,
        # Without splitting, 0 has always stood for 1.
        max_enqueued=max_enqueued if split_large else max_enqueued or 1,
        allowed_sizes=tuple(parameters.allowed_batch_sizes),
        pad_lengths=parameters.pad_variable_length_inputs,
        split_large=split_large,
        max_execution_size=_value(parameters, "max_execution_batch_size", 0) or None,
    )
    _check(options)
    return options


def _check(options: BatchingOptions) -> None:
    sizes = options.allowed_sizes
    if sizes and sizes[-1] != options.max_batch_size:
        invalid(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {options.max_batch_size}"
        )
    if list(sizes) != sorted(set(sizes)) or (sizes and sizes[0] < 1):
        invalid(f"allowed_batch_sizes must be positive and increasing; was {list(sizes)}")
    if options.max_batch_size < 1:
        invalid(f"input_batch_size_limit must be positive; was {options.max_batch_size}")
    if options.timeout_seconds < 0:
        micros = round(options.timeout_seconds * 1e6)
        invalid(f"batch_timeout_micros must be non-negative; was {micros}")
    if options.max_enqueued < 1:
        invalid(f"max_enqueued_batches must be positive; was {options.max_enqueued}")
    if options.max_batch_size < options.execution_size:
        invalid(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater "
            "than or equal to max_execution_batch_size."
        )


def _value(parameters: Any, name: str, default: int) -> int:
    return int(getattr(parameters, name).value) if parameters.HasField(name) else default
