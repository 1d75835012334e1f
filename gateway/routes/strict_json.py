"""JSON read strictly: what two readers could understand differently is refused.

RFC 8259 leaves open what duplicate names, numbers without end and lone surrogates mean; Python's
reader takes them all, and detects UTF-16. Here a document is UTF-8 without a byte order mark, its
names are unique, its numbers finite and its strings Unicode.
"""

import codecs
import json
import math
from collections import Counter
from typing import Any, NoReturn

from gateway.errors import InvalidRequest


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in the bytes.

    Raises:
        InvalidRequest: it is not one; the message says why.
    """
    if body.startswith(codecs.BOM_UTF8):
        raise InvalidRequest("The body begins with a byte order mark, which JSON does not have.")
    try:
        document = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}); send JSON.") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"The body is not JSON: {error.msg} ({where}).") from error
    except RecursionError as error:
        raise InvalidRequest("The body's JSON is nested too deeply.") from error
    except ValueError as error:
        raise InvalidRequest("The body's JSON has a number of too many digits.") from error
    if not isinstance(document, dict):
        raise InvalidRequest(
            'The body must be a JSON object, such as {"url": "https://example.com/a.jpg"}.'
        )
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    for name, value in pairs:
        _check_string(name)
        _check_value(value)
    if len(members) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise InvalidRequest(f"The body names {counts.most_common(1)[0][0][:80]!r} twice.")
    return members


def _check_value(value: Any) -> None:
    """Strings in lists as well; objects in them were checked when they were read."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            _check_string(item)
        elif isinstance(item, list):
            waiting.extend(item)


def _check_string(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            message = "A string in the body holds half of a surrogate pair, which is no character."
            raise InvalidRequest(message) from error


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidRequest(f"The number {text[:80]} in the body is too large.")
    return number


def _constant(text: str) -> NoReturn:
    raise InvalidRequest(f"The body holds {text}, which is not JSON.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_constant=_constant
)
