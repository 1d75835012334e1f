"""The files of a multipart/form-data body (RFC 7578), in the order they were sent.

The whole body is in memory, so nothing is copied but the files themselves. Werkzeug's parser groups
files by field and spends seconds on megabytes of header lines.
"""

import re
from collections.abc import Iterator

from werkzeug.http import parse_options_header

from gateway.errors import InvalidRequest

_LONGEST_HEAD = 8192
_END_OF_DELIMITER = re.compile(rb"(--)?[ \t]*(?:\r\n|\Z)")
_BROKEN = "The multipart/form-data body is broken or cut off."


def read_files(body: bytes, boundary: str, max_files: int) -> list[bytes]:
    """Each file's bytes, whatever its field's name.

    Raises:
        InvalidRequest: the body is broken or cut off, holds no file, too many, or a field that
            is no file.
    """
    files: list[bytes] = []
    for start, end in _parts(body, boundary):
        if len(files) == max_files:
            raise InvalidRequest(f"The body holds more than {max_files} files.")
        data = body.find(b"\r\n\r\n", start, min(end, start + _LONGEST_HEAD)) + 4
        if data < 4:
            raise InvalidRequest(_BROKEN)
        _check_file(body[start:data])
        files.append(body[data:end])
    if not files:
        raise InvalidRequest("The multipart/form-data body holds no file.")
    return files


def _parts(body: bytes, boundary: str) -> Iterator[tuple[int, int]]:
    """Where each part's head starts and its data ends.

    RFC 2046, section 5.1.1: a delimiter is a line of its own, its line breaks belong to it, and
    nothing that begins like one may be in the data.
    """
    mark = b"\r\n--" + boundary.encode("latin-1")
    start = len(mark) - 2 if body.startswith(mark[2:]) else _after(body, mark, 0)[1]
    while (rest := _END_OF_DELIMITER.match(body, start)) is not None:
        if rest[1] is not None:
            return
        end, start = _after(body, mark, rest.end())
        yield rest.end(), end
    raise InvalidRequest(_BROKEN)


def _after(body: bytes, mark: bytes, position: int) -> tuple[int, int]:
    """Where the next mark starts and ends."""
    found = body.find(mark, position)
    if found < 0:
        raise InvalidRequest(_BROKEN)
    return found, found + len(mark)


def _check_file(head: bytes) -> None:
    """Refuse a part whose head does not say that it is a file."""
    try:
        lines = [line.partition(":") for line in head.decode("utf-8").split("\r\n")]
    except UnicodeDecodeError as error:
        raise InvalidRequest(_BROKEN) from error
    values = [value for name, _, value in lines if name.strip().lower() == "content-disposition"]
    if len(values) != 1:
        raise InvalidRequest(_BROKEN)
    _, options = parse_options_header(values[0])
    if "filename" not in options:
        name = options.get("name", "")
        raise InvalidRequest(
            f"The form's field {name[:80]!r} is not a file; options go in the query: ?top=3."
        )
