"""The JSON reader against Python's own, and against RapidJSON's rules for what is wrong."""

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.server import json_reader
from model.server.json_reader import Members, ParseError, Value, read, string_bytes

NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats())
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text())
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)


def plain(value: Value) -> object:
    """The value as `json` would give it."""
    if isinstance(value, Members):
        return {name: plain(item) for name, item in value.pairs}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def read_slowly(document: bytes) -> Value:
    return json_reader._Reader(document, 0).read()


def outcome(reader: Callable[[bytes], Value], document: bytes) -> str:
    """What a reader makes of a document: the value, or the error's text."""
    try:
        return repr(plain(reader(document)))
    except ParseError as error:
        return str(error)


@given(DOCUMENTS, st.sampled_from([None, 1]), st.booleans())
def test_both_readers_give_what_was_written(
    document: object, indentation: int | None, ascii_only: bool
) -> None:
    text = json.dumps(document, indent=indentation, ensure_ascii=ascii_only).encode()
    for value in (read(text), read_slowly(text)):
        assert repr(plain(value)) == repr(document)


@given(st.text(alphabet='{}[],:"\\u0123456789abtrfnlsINaeE+-. \n\x01é', max_size=24))
def test_both_readers_agree_on_what_is_json(text: str) -> None:
    assert outcome(read, text.encode()) == outcome(read_slowly, text.encode())


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"   ", "The document is empty. at offset: 3"),
        (b"]", "The document is empty. at offset: 0"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b"{1", "Missing a name for object member. at offset: 1"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1 "b":2}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'{"a":1', "Missing a comma or '}' after an object member. at offset: 6"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b'{"a":}', "Invalid value. at offset: 5"),
        (b"[tru]", "Invalid value. at offset: 4"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[Infinite]", "Invalid value. at offset: 8"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e+]", "Miss exponent in number. at offset: 4"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"9" * 400 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"9" * 9000 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b'["abc', "Missing a closing quotation mark in string. at offset: 5"),
        (b'["a\nb"]', "Invalid escape character in string. at offset: 3"),
        (b'["a\\x"]', "Invalid escape character in string. at offset: 3"),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\ud800x"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\ud800\\u0041"]', "The surrogate pair in string is invalid. at offset: 2"),
        ("[é, x]".encode(), "Invalid value. at offset: 1"),
        ('["é", x]'.encode(), "Invalid value. at offset: 7"),
    ],
)
def test_errors_have_rapidjsons_text_and_the_byte_where_it_stops(
    document: bytes, text: str
) -> None:
    with pytest.raises(ParseError) as raised:
        read(document)
    assert str(raised.value) == text


def test_reading_stops_after_the_first_value() -> None:
    assert plain(read(b'{"a": 1} and more')) == {"a": 1}
    assert read(b"[1]\0[") == [1]


def test_numbers_that_are_not_finite_are_read() -> None:
    for reader in (read, read_slowly):
        assert repr(reader(b"[Infinity, -Infinity]")) == "[inf, -inf]"
    assert repr(read(b"[NaN, -NaN, Inf, -Inf]")) == "[nan, nan, inf, -inf]"


def test_names_may_repeat_and_the_first_is_found() -> None:
    value = read(b'{"a": 1, "a": 2}')
    assert isinstance(value, Members)
    assert value.first("a") == 1
    assert len(value.pairs) == 2


def test_strings_keep_bytes_that_are_not_utf_8() -> None:
    value = read(b'"\xff\xc3\xa9"')
    assert isinstance(value, str)
    assert string_bytes(value) == b"\xff\xc3\xa9"


def test_an_unpaired_low_surrogate_is_kept_and_a_pair_is_one_character() -> None:
    value = read(b'["\\ude00", "\\ud83d\\ude00"]')
    assert isinstance(value, list)
    assert [string_bytes(str(item)) for item in value] == [b"\xed\xb8\x80", "😀".encode()]


def test_half_of_a_pair_is_found_behind_an_escaped_backslash() -> None:
    for text in (r'["\\ud83d\ude00"]', r'["\\\ud83d\ude00\ude00"]', r'["\ud83d\\ude00"]'):
        assert outcome(read, text.encode()) == outcome(read_slowly, text.encode())


def test_a_byte_order_mark_is_passed_over_and_counted() -> None:
    assert read(b"\xef\xbb\xbf[1]") == [1]
    with pytest.raises(ParseError, match="at offset: 4"):
        read(b"\xef\xbb\xbf[x]")


def test_nesting_has_no_limit() -> None:
    value = read(b"[" * 100_000 + b"]" * 100_000)
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    assert depth == 99_999


def test_a_large_exponent_that_fits_is_read() -> None:
    value = read(b"[0.001e310, 1e308, 1e-400]")
    assert isinstance(value, list)
    assert value == [1e307, 1e308, 0.0]
    assert all(isinstance(number, float) and math.isfinite(number) for number in value)
