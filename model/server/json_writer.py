"""JSON as TensorFlow Serving writes it: RapidJSON 1.1.0's PrettyWriter and the server's numbers.

Objects are indented by four spaces. Arrays have one value on each line, or stand on a single line
with `, ` between values, which is how rows of predictions look. A level is how many arrays and
objects a value stands in. Texts are strings with surrogate escapes; `finished` gives their bytes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from model.server.json_reader import Members, Value, string_bytes

DEBUG_BYTES: Final = 256
"""From here on a value in an error text is cut, between two tokens."""
LARGEST_UNSIGNED: Final = 2**64 - 1
SMALLEST_SIGNED: Final = -(2**63)

_ESCAPES = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("\b"): "\\b",
    ord("\f"): "\\f",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


def quoted(text: str) -> str:
    """A JSON string."""
    return f'"{text.translate(_ESCAPES)}"'


def indent(level: int) -> str:
    """The start of a line at this level."""
    return "    " * level


def json_object(members: Mapping[str, str], level: int) -> str:
    """An object of already written values that stands at this level."""
    if not members:
        return "{}"
    start = ",\n" + indent(level + 1)
    lines = start.join(f"{quoted(name)}: {value}" for name, value in members.items())
    return f"{{{start[1:]}{lines}\n{indent(level)}}}"


def array_in_lines(values: Sequence[str], level: int) -> str:
    """An array with one value on each line."""
    if not values:
        return "[]"
    start = ",\n" + indent(level + 1)
    return f"[{start[1:]}{start.join(values)}\n{indent(level)}]"


def array_in_one_line(values: Sequence[str]) -> str:
    """An array on a single line."""
    return f"[{', '.join(values)}]"


def rows(values: Sequence[str], level: int) -> str:
    """The array of predictions: written in one line, its end on a line of its own."""
    return f"[{', '.join(values)}\n{indent(level)}]" if values else "[]"


def nested(leaves: Sequence[str], shape: Sequence[int], level: int, *, one_line: bool) -> str:
    """Leaves in row-major order as arrays in arrays of this shape."""
    for depth in range(len(shape) - 1, -1, -1):
        size, count = shape[depth], int(np.prod(shape[:depth], dtype=np.int64))
        groups = (leaves[index * size : (index + 1) * size] for index in range(count))
        leaves = [
            array_in_one_line(group) if one_line else array_in_lines(group, level + depth)
            for group in groups
        ]
    return leaves[0]


def finished(text: str) -> bytes:
    """The bytes of a response."""
    return string_bytes(text)


def decimals(values: npt.NDArray[np.floating]) -> list[str]:
    """Floating-point numbers: %g where that reads back as the same number, else all digits.

    Whole numbers get `.0`; numbers that are not finite are the tokens NaN, Infinity, -Infinity.
    """
    digits = 9 if values.dtype == np.float32 else 17
    numbers = values.ravel().tolist()
    if not numbers:
        return []
    short = [f"{number:g}" for number in numbers]
    same = np.array(short, dtype=np.float64).astype(values.dtype) == values.ravel()
    return [
        _decimal(text if exact else f"{number:.{digits}g}")
        for text, exact, number in zip(short, same, numbers, strict=True)
    ]


def decimal32(number: float) -> str:
    """One number of 32 bits."""
    return decimals(np.array([number], dtype=np.float32))[0]


def _decimal(text: str) -> str:
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    return text if "." in text or "e" in text else text + ".0"


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def debug_text(value: Value) -> str:
    """A value as error texts show it, cut once it is longer than `DEBUG_BYTES`."""
    text = _LimitedText()
    _write_debug(value, text, 0)
    return "".join(text.parts)


class _LimitedText:
    """Text that takes token after token until it is long enough."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._size = 0

    def add(self, before: str, token: str) -> bool:
        if self._size >= DEBUG_BYTES:
            return False
        self.parts += [before, token]
        self._size += len(string_bytes(before)) + len(string_bytes(token))
        return True


def _write_debug(value: Value, text: _LimitedText, level: int, before: str = "") -> bool:
    """Write a value as RapidJSON's events come; False when the limit or an error ends it."""
    if isinstance(value, list):
        written = text.add(before, "[") and all(
            _write_debug(item, text, level + 1, ", " if index else "")
            for index, item in enumerate(value)
        )
        return written and text.add("", "]")
    if isinstance(value, Members):
        line = "\n" + indent(level + 1)
        written = text.add(before, "{") and all(
            text.add("," + line if index else line, quoted(name))
            and _write_debug(item, text, level + 1, ": ")
            for index, (name, item) in enumerate(value.pairs)
        )
        return written and text.add(f"\n{indent(level)}" if value.pairs else "", "}")
    token = _debug_scalar(value)
    return text.add(before, token) and token != ""


def _debug_scalar(value: bool | int | float | str | None) -> str:
    """A scalar's token; nothing for a number that is not finite, which ends RapidJSON's writing."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and SMALLEST_SIGNED <= value <= LARGEST_UNSIGNED:
        return str(value)
    return _shortest(float(value)) if math.isfinite(value) else ""


def _shortest(number: float) -> str:
    """A double with the fewest digits, laid out as RapidJSON does."""
    mantissa, _, exponent = f"{number!r}".lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    sign = "-" if math.copysign(1, number) < 0 else ""
    return sign + (_placed(digits, point) if digits else "0.0")


def _placed(digits: str, point: int) -> str:
    """Digits with the decimal point after `point` of them."""
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0") + ".0"
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    return f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1}"
