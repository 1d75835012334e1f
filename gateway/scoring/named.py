"""Scores as callers see them: by their labels, in the contract's order or best first."""

import numpy as np

from gateway.scoring.contract import ModelContract


def named_scores(
    row: np.ndarray, contract: ModelContract, *, top: int | None = None, probabilities: bool = False
) -> dict[str, float]:
    """Each label's score, in the contract's order, or the `top` best ones, best first.

    Args:
        row: one picture's raw scores, finite.
        contract: of the version that answered.
        top: how many; None is all. Of equal scores the contract's first comes first.
        probabilities: softmax in float64 where the scores are logits; scores that the contract
            calls probabilities pass unchanged.
    """
    if probabilities and contract.document.scores == "logits":
        row = softmax(row)
    order = range(len(row)) if top is None else np.argsort(-row.astype(np.float64), kind="stable")
    return {contract.labels[index]: as_number(row[index]) for index in order[:top]}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64; their sum is 1 within rounding, for logits of any finite size."""
    with np.errstate(over="ignore"):  # of float64: the power of minus infinity is zero
        powers = np.exp(logits.astype(np.float64) - np.float64(logits.max()))
    return np.asarray(powers / powers.sum())


def as_number(value: np.generic) -> float:
    """The number whose JSON is the shortest decimal that reads back as exactly this value.

    A float32 printed by way of float64 has some 17 digits where 9 or fewer name it; halves are
    named by their digits as float32.
    """
    if value.dtype == np.float64 or value.dtype.kind in "iub":
        number: float = value.item()
        return number
    single = np.float32(value)
    short = float(str(single))
    return short if np.float32(short) == single else float(single)
