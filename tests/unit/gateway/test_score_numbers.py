"""Raw scores reach callers as the very numbers the model gave."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scoring.contract import ContractDocument, ModelContract, Preprocessing
from gateway.scoring.named import as_number, named_scores, softmax

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def contract(labels: tuple[str, ...], scores: str = "logits") -> ModelContract:
    document = ContractDocument(labels, Preprocessing(4, 4, "none"), scores=scores)  # type: ignore[arg-type]
    shape = (-1, 4, 4, 3)
    dtype = np.dtype(np.float32)
    return ModelContract("m", 1, document, "x", dtype, shape, "y", (-1, len(labels)))


@given(FLOATS)
def test_a_float32_reads_back_exactly_from_the_json(value: float) -> None:
    single = np.float32(value)
    back = np.float32(json.loads(json.dumps(as_number(single))))
    assert back == single
    assert math.copysign(1, back) == math.copysign(1, single)


@given(FLOATS)
def test_no_shorter_decimal_reads_back_as_the_same_float32(value: float) -> None:
    digits = digits_of(json.dumps(as_number(np.float32(value))))
    fewer = f"{np.float32(value):.{max(0, len(digits) - 2)}e}"
    assert len(digits) <= 9
    assert len(digits) == 1 or np.float32(fewer) != np.float32(value)


def digits_of(text: str) -> str:
    mantissa = text.lower().partition("e")[0].lstrip("-").replace(".", "")
    return mantissa.strip("0") or "0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), "0.1"),
        (np.float32(-1.868290066719), "-1.8682901"),
        (np.float32(16777216), "16777216.0"),
        (np.float32(1e-45), "1e-45"),
        (np.float32(3.4028235e38), "3.4028235e+38"),
        (np.float16(0.1), "0.099975586"),
        (np.float64(0.1), "0.1"),
        (np.float64(1 / 3), "0.3333333333333333"),
        (np.int64(2**60 + 1), "1152921504606846977"),
        (np.uint8(7), "7"),
    ],
)
def test_numbers_of_every_type_are_written_shortest(value: np.generic, text: str) -> None:
    assert json.dumps(as_number(value)) == text


def test_all_scores_come_in_the_contracts_order() -> None:
    row = np.array([1, 3, 2], np.float32)
    assert list(named_scores(row, contract(("c", "a", "b")))) == ["c", "a", "b"]


@given(st.lists(FLOATS, min_size=1, max_size=12), st.integers(1, 15))
def test_top_is_the_best_first_and_ties_keep_the_contracts_order(
    values: list[float], top: int
) -> None:
    labels = tuple(f"label {number}" for number in range(len(values)))
    named = named_scores(np.array(values, np.float32), contract(labels), top=top)
    expected = sorted(range(len(values)), key=lambda index: -values[index])[:top]
    assert list(named) == [labels[index] for index in expected]


@given(st.lists(FLOATS, min_size=1, max_size=12))
def test_probabilities_sum_to_one_whatever_the_logits(values: list[float]) -> None:
    row = np.array(values, np.float32)
    named = named_scores(row, contract(tuple("abcdefghijkl"[: len(values)])), probabilities=True)
    assert math.isclose(sum(named.values()), 1, rel_tol=1e-12)
    assert all(0 <= value <= 1 for value in named.values())


def test_logits_that_are_further_apart_than_any_number_are_probabilities() -> None:
    row = np.array([1.7e308, -1.7e308, 0.0])
    named = named_scores(row, contract(("a", "b", "c")), probabilities=True)
    assert named == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_probabilities_are_softmax_in_float64() -> None:
    row = np.array([1.5, -2.25, 0.125], np.float32)
    total = sum(math.exp(value) for value in (1.5, -2.25, 0.125))
    expected = [math.exp(value) / total for value in (1.5, -2.25, 0.125)]
    assert np.allclose(softmax(row), expected, rtol=1e-15, atol=0)
    assert softmax(row).dtype == np.float64


def test_scores_that_are_probabilities_pass_unchanged() -> None:
    row = np.array([0.1, 0.7, 0.2], np.float32)
    named = named_scores(row, contract(("a", "b", "c"), "probabilities"), probabilities=True)
    assert named == {"a": 0.1, "b": 0.7, "c": 0.2}
