"""JSON as TensorFlow Serving reads it: RapidJSON 1.1.0's grammar, errors and offsets.

It differs from Python's `json` module: reading stops after the first value, `Inf` and `-NaN` are
numbers too, an unpaired high surrogate is an error, names may repeat, strings may hold bytes that
are not UTF-8, nesting has no limit, and each error has RapidJSON's text and the offset of a byte.
`json` reads what both read alike, at the speed of C; where it fails, or where the two could differ,
`_Reader` decides.

Two differences are kept: RapidJSON's quick number reader may be off by some units in the last place
of a double, and this one never is; and it goes on to a fraction or exponent behind `NaN`.
"""

import json
import re
from typing import Final, NoReturn, TypeAlias

DOCUMENT_EMPTY: Final = "The document is empty."
INVALID_VALUE: Final = "Invalid value."
MISSING_NAME: Final = "Missing a name for object member."
MISSING_COLON: Final = "Missing a colon after a name of object member."
MISSING_COMMA_IN_OBJECT: Final = "Missing a comma or '}' after an object member."
MISSING_COMMA_IN_ARRAY: Final = "Missing a comma or ']' after an array element."
BAD_HEX: Final = "Incorrect hex digit after \\u escape in string."
BAD_SURROGATE: Final = "The surrogate pair in string is invalid."
BAD_ESCAPE: Final = "Invalid escape character in string."
MISSING_QUOTE: Final = "Missing a closing quotation mark in string."
NUMBER_TOO_BIG: Final = "Number too big to be stored in double."
MISSING_FRACTION: Final = "Miss fraction part in number."
MISSING_EXPONENT: Final = "Miss exponent in number."

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Members:
    """A JSON object: its members in their order; a name may stand more than once."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: "list[tuple[str, Value]]") -> None:
        self.pairs = pairs

    def has(self, name: str) -> bool:
        """Whether there is a member of this name."""
        return any(key == name for key, _ in self.pairs)

    def first(self, name: str) -> "Value":
        """The first member of this name, which is the one that RapidJSON finds."""
        return next(value for key, value in self.pairs if key == name)


Value: TypeAlias = "bool | int | float | str | list[Value] | Members | None"
"""A JSON value. A string may hold surrogate escapes: its bytes are `string_bytes`'s."""


class ParseError(Exception):
    """The document is not JSON: RapidJSON's sentence and the offset of the byte it stopped at."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(f"{text} at offset: {offset}")


def string_bytes(text: str) -> bytes:
    """The bytes of a string that was read, those that are not UTF-8 included."""
    return text.encode("utf-8", "surrogateescape")


def string_of(data: bytes) -> str:
    """The string whose `string_bytes` are these."""
    return data.decode("utf-8", "surrogateescape")


def read(document: bytes) -> Value:
    """The first JSON value of a document; what follows it is not looked at.

    Raises:
        ParseError: there is none, or it is not well formed.
    """
    start = 0
    for byte in BYTE_ORDER_MARK:
        if document[start : start + 1] == bytes([byte]):
            start += 1
    if not _may_differ(document):
        try:
            return _read_alike(document[start:].decode())
        except (ValueError, RecursionError):
            pass  # the reader below says what is wrong, or reads what `json` cannot
    return _Reader(document, start).read()


_DECODER = json.JSONDecoder(object_pairs_hook=Members)
_SPACE = re.compile(rb"[ \t\n\r]*")
_TEXT_SPACE = re.compile(r"[ \t\n\r]*")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_EXPONENT = re.compile(rb"[eE]\+?\d{3}")
_ESCAPED = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F])|.)",
    re.DOTALL,
)
"""An escape; its group is there for half of a surrogate pair without the other."""


def _may_differ(document: bytes) -> bool:
    """Whether `json` could read this document otherwise than RapidJSON does."""
    return (
        b"0" * 300 in document.translate(_DIGITS_TO_ZERO)
        or _LONG_EXPONENT.search(document) is not None
        or (b"\\u" in document and any(half.group(1) for half in _ESCAPED.finditer(document)))
    )


def _read_alike(text: str) -> Value:
    """An array or object; of a number such as `1.` at the top `json` would read a part."""
    space = _TEXT_SPACE.match(text)
    start = space.end() if space else 0
    if text[start : start + 1] not in ("[", "{"):
        raise ValueError("neither an array nor an object")
    value: Value = _DECODER.raw_decode(text, start)[0]
    return value


_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_DIGITS = re.compile(rb"[0-9]+")
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
_LARGEST_EXPONENT = 308
_LARGEST_TENTH = 17976931348623157 * 10**291


class _Reader:
    """Reads one value, byte by byte where it must, without recursion."""

    def __init__(self, document: bytes, start: int) -> None:
        self._data = document.partition(b"\0")[0]
        self._at = start

    def read(self) -> Value:
        self._skip_space()
        if self._next() in (b"", b"]", b"}", b",", b":"):
            self._fail(DOCUMENT_EMPTY)
        open_values: list[list[Value] | Members] = []
        names: list[str] = []
        while True:
            value = self._value(open_values, names)
            if value is _OPENED:
                continue
            while open_values and self._close(open_values, names, value):
                value = open_values.pop()
            if not open_values:
                return value

    def _value(self, open_values: "list[list[Value] | Members]", names: list[str]) -> Value:
        """The scalar or the empty array or object here; `_OPENED` after the start of another."""
        begin = self._next()
        if begin not in (b"[", b"{"):
            return self._scalar(begin)
        self._at += 1
        self._skip_space()
        opened: list[Value] | Members = [] if begin == b"[" else Members([])
        if self._next() == (b"]" if begin == b"[" else b"}"):
            self._at += 1
            return opened
        open_values.append(opened)
        if begin == b"{":
            names.append(self._name())
        return _OPENED

    def _close(
        self, open_values: "list[list[Value] | Members]", names: list[str], value: Value
    ) -> bool:
        """Give a finished value to what it stands in; whether that is finished too."""
        container = open_values[-1]
        in_array = isinstance(container, list)
        if isinstance(container, list):
            container.append(value)
        else:
            container.pairs.append((names.pop(), value))
        self._skip_space()
        byte = self._next()
        if byte == (b"]" if in_array else b"}"):
            self._at += 1
            return True
        if byte != b",":
            self._fail(MISSING_COMMA_IN_ARRAY if in_array else MISSING_COMMA_IN_OBJECT)
        self._at += 1
        self._skip_space()
        if not in_array:
            names.append(self._name())
        return False

    def _name(self) -> str:
        if self._next() != b'"':
            self._fail(MISSING_NAME)
        name = self._string()
        self._skip_space()
        if self._next() != b":":
            self._fail(MISSING_COLON)
        self._at += 1
        self._skip_space()
        return name

    def _scalar(self, begin: bytes) -> Value:
        if begin == b'"':
            return self._string()
        if begin == b"t":
            return self._word(b"true", value=True)
        if begin == b"f":
            return self._word(b"false", value=False)
        if begin == b"n":
            return self._word(b"null", value=None)
        return self._number()

    def _word(self, word: bytes, value: Value) -> Value:
        for byte in word:
            if self._next() != bytes([byte]):
                self._fail(INVALID_VALUE)
            self._at += 1
        return value

    def _number(self) -> int | float:
        start = self._at
        integer = _INTEGER.match(self._data, start)
        if integer is None:
            return self._not_finite()
        self._at = integer.end()
        digits = integer.group().lstrip(b"-")
        if len(digits) > 310 or (len(digits) > 20 and int(digits[:-1]) >= _LARGEST_TENTH):
            self._fail(NUMBER_TOO_BIG, start)
        fraction = self._digits_after(b".", MISSING_FRACTION)
        if self._exponent() > _LARGEST_EXPONENT + fraction:
            self._fail(NUMBER_TOO_BIG, start)
        text = self._data[start : self._at]
        return int(text) if self._at == integer.end() else float(text)

    def _digits_after(self, mark: bytes, missing: str) -> int:
        """Pass the mark and the digits that must follow it; how many there were."""
        if self._next() != mark:
            return 0
        self._at += 1
        digits = _DIGITS.match(self._data, self._at)
        if digits is None:
            self._fail(missing)
        self._at = digits.end()
        return len(digits.group())

    def _exponent(self) -> int:
        """Pass the exponent; its value, cut where it is hopeless."""
        if self._next() not in (b"e", b"E"):
            return 0
        self._at += 1
        sign = self._next()
        if sign in (b"+", b"-"):
            self._at += 1
        digits = _DIGITS.match(self._data, self._at)
        if digits is None:
            self._fail(MISSING_EXPONENT)
        self._at = digits.end()
        return 0 if sign == b"-" else int(digits.group().lstrip(b"0")[:9] or b"0")

    def _not_finite(self) -> float:
        sign = "-" if self._next() == b"-" else ""
        self._at += len(sign)
        if self._next() == b"N":
            self._word(b"NaN", None)
            return float("nan")
        self._word(b"Inf", None)
        if self._next() == b"i":
            self._word(b"inity", None)
        return float(sign + "inf")

    def _string(self) -> str:
        self._at += 1
        parts = bytearray()
        while True:
            plain = _PLAIN.match(self._data, self._at)
            if plain is not None:
                parts += plain.group()
                self._at = plain.end()
            byte = self._next()
            if byte == b'"':
                self._at += 1
                return string_of(bytes(parts))
            if byte != b"\\":
                self._fail(BAD_ESCAPE if byte else MISSING_QUOTE)
            parts += self._escape()

    def _escape(self) -> bytes:
        start = self._at
        self._at += 1
        byte = self._next()
        if byte and byte[0] in _ESCAPES:
            self._at += 1
            return bytes([_ESCAPES[byte[0]]])
        if byte != b"u":
            self._fail(BAD_ESCAPE, start)
        code_point = self._hex(start)
        if 0xD800 <= code_point <= 0xDBFF:
            code_point = self._low_surrogate(code_point, start)
        return chr(code_point).encode("utf-8", "surrogatepass")

    def _low_surrogate(self, high: int, start: int) -> int:
        if self._data[self._at : self._at + 2] != b"\\u":
            self._fail(BAD_SURROGATE, start)
        self._at += 1
        low = self._hex(start)
        if not 0xDC00 <= low <= 0xDFFF:
            self._fail(BAD_SURROGATE, start)
        return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)

    def _hex(self, start: int) -> int:
        digits = _HEX.match(self._data, self._at + 1)
        if digits is None:
            self._fail(BAD_HEX, start)
        self._at = digits.end()
        return int(digits.group(), 16)

    def _next(self) -> bytes:
        return self._data[self._at : self._at + 1]

    def _skip_space(self) -> None:
        space = _SPACE.match(self._data, self._at)
        if space is not None:
            self._at = space.end()

    def _fail(self, text: str, offset: int | None = None) -> NoReturn:
        raise ParseError(text, self._at if offset is None else offset)


_OPENED: Final = Members([])
"""Says that an array or object was begun and its first value comes next."""
