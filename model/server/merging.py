"""Puts the inputs of several calls into one batch and takes its outputs apart again."""

from collections.abc import Mapping, Sequence

import grpc
import numpy as np

from model.server.errors import ServingError, failed_precondition, invalid

MAX_PADDED_RANK = 6


def batch_size(feeds: Mapping[str, np.ndarray]) -> int:
    """The size of dimension 0, which all inputs of a call must share."""
    if not feeds:
        invalid("Batching Run() must have at least one input tensor")
    sizes = set()
    for value in feeds.values():
        if value.ndim == 0:
            invalid("Batching Run() input tensors must have at least one dimension")
        sizes.add(value.shape[0])
    if len(sizes) > 1:
        invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return int(sizes.pop())


def merged(
    calls: Sequence[Mapping[str, np.ndarray]], *, padding: int, pad_lengths: bool
) -> dict[str, np.ndarray]:
    """The inputs of all calls one after another, and `padding` copies of a row of the last call.

    With `pad_lengths`, inputs that differ beyond dimension 0 are made as long as the longest.

    Raises:
        ServingError: the inputs do not fit together.
    """
    feeds: dict[str, np.ndarray] = {}
    for name in sorted(calls[0]):
        values = [call[name] for call in calls]
        if pad_lengths:
            values = _evened(values)
        elif any(value.shape[1:] != values[0].shape[1:] for value in values):
            failed_precondition(
                f"Tensors with name '{name}' from different tasks have different shapes and "
                "padding is turned off. Set pad_variable_length_inputs to true, or ensure that "
                "all tensors with the same name have equal dimensions starting with the first "
                "dim."
            )
        if padding:
            values.append(np.repeat(values[-1][:1], padding, axis=0))
        feeds[name] = _concatenated(values)
    return feeds


def split(outputs: list[np.ndarray], sizes: Sequence[int], total: int) -> list[list[np.ndarray]]:
    """Each call's rows of each output; rows of padding are dropped.

    Raises:
        ServingError: FAILED_PRECONDITION, an output does not have one row for each input row.
    """
    for output in outputs:
        if output.ndim == 0:
            failed_precondition("Batched output tensor has 0 dimensions")
        if output.shape[0] != total:
            failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the "
                "0th dimension sizes of the input tensors"
            )
    ends = np.cumsum(sizes).tolist()
    return [
        [output[end - size : end] for output in outputs]
        for size, end in zip(sizes, ends, strict=True)
    ]


def joined(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The outputs of a call from those of its parts."""
    if len(parts) == 1:
        return parts[0]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _concatenated(values: list[np.ndarray]) -> np.ndarray:
    if len(values) == 1:
        return values[0]
    if any(value.dtype != values[0].dtype for value in values):
        raise ServingError(
            grpc.StatusCode.INTERNAL,
            "Tensor concat operation failed: INVALID_ARGUMENT: the tensors differ in data type",
        )
    return np.concatenate(values)


def _evened(values: list[np.ndarray]) -> list[np.ndarray]:
    """Every input padded with its own first value to the largest of each dimension."""
    ranks = {value.ndim for value in values}
    if len(ranks) > 1 or max(ranks) > MAX_PADDED_RANK:
        invalid("Only tensors with rank from 1 to 6 can be padded.")
    largest = np.max([value.shape for value in values], axis=0)
    return [_padded(value, (value.shape[0], *largest[1:].tolist())) for value in values]


def _padded(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.shape == shape:
        return value
    if value.size == 0:
        invalid("Got empty tensor in batch of non-empty tensors.")
    padded = np.full(shape, value.reshape(-1)[0], value.dtype)
    padded[tuple(slice(size) for size in value.shape)] = value
    return padded
