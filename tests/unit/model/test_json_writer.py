"""Numbers, strings and layout as TensorFlow Serving prints them."""

import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.server import json_writer as writer
from model.server.json_reader import read
from tests.support.serving_reference import row

assert row("rest.numbers")
assert row("rest.not-a-number")


def printed(number: float, dtype: npt.DTypeLike) -> str:
    return writer.decimals(np.array([number], dtype=dtype))[0]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.2, "0.2"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (9e6, "9e+06"),
        (3e-5, "3e-05"),
        (1 / 3, "0.333333343"),
        (16777216.0, "16777216.0"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_a_float32_is_printed_short_or_with_nine_digits(number: float, text: str) -> None:
    assert printed(number, np.float32) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.1, "0.1"), (1 / 3, "0.33333333333333331"), (1e300, "1e+300"), (1234567.0, "1234567.0")],
)
def test_a_float64_is_printed_short_or_with_seventeen_digits(number: float, text: str) -> None:
    assert printed(number, np.float64) == text


@given(st.floats(width=32))
def test_every_float32_reads_back_as_itself(number: float) -> None:
    text = printed(number, np.float32)
    assert np.float32(float(text)).tobytes() == np.float32(number).tobytes() or math.isnan(number)
    assert text in {"NaN", "Infinity", "-Infinity"} or "." in text or "e" in text


@given(st.floats())
def test_every_float64_reads_back_as_itself(number: float) -> None:
    back = float(printed(number, np.float64))
    assert back == number or (math.isnan(back) and math.isnan(number))


@given(st.text())
def test_strings_read_back_as_themselves(text: str) -> None:
    assert json.loads(writer.quoted(text)) == text


def test_control_characters_are_escaped_with_upper_case_digits() -> None:
    assert writer.quoted('\x1f"\\\n/é\x7f') == '"\\u001F\\"\\\\\\n/é\x7f"'


def test_arrays_stand_in_lines_or_in_one() -> None:
    assert writer.nested(["1", "2"], (2, 1), 1, one_line=True) == "[[1], [2]]"
    assert writer.nested(["1", "2"], (2,), 1, one_line=False) == "[\n        1,\n        2\n    ]"
    assert writer.nested([], (2, 0), 1, one_line=True) == "[[], []]"
    assert writer.rows(["[1]", "[2]"], 1) == "[[1], [2]\n    ]"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b'"a"', '"a"'),
        (b"[1, 2.0, -0.0]", "[1, 2.0, -0.0]"),
        (
            b"[1e30, 1.25e-7, 0.00001, 1e21, 1e20]",
            "[1e30, 1.25e-7, 0.00001, 1e21, 100000000000000000000.0]",
        ),
        (b"[18446744073709551616]", "[18446744073709552000.0]"),
        (b"[null, true, false]", "[null, true, false]"),
        (b'{"a": [], "b": {}}', '{\n    "a": [],\n    "b": {}\n}'),
        (b"[1, NaN, 2]", "[1, "),
    ],
)
def test_error_texts_show_values_as_rapidjson_prints_them(document: bytes, text: str) -> None:
    assert writer.debug_text(read(document)) == text


def test_error_texts_show_no_more_of_a_value_than_256_bytes_and_a_token() -> None:
    row("rest.debug-value-cut")
    shown = writer.debug_text(list(range(1000)))
    assert 256 <= len(shown) < 256 + len(", 100")
    assert str(list(range(1000))).startswith(shown)


def test_error_texts_of_deep_values_are_cut_too() -> None:
    assert writer.debug_text(read(b"[" * 5000 + b"]" * 5000)) == "[" * 256
