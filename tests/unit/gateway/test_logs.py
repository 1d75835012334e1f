"""Lines of the log."""

import fcntl
import json
import logging
import os
import select
import sys
from collections.abc import Iterator

import pytest

from gateway.logs import JSONLines, UnhurriedHandler


def line_of(record: logging.LogRecord) -> dict[str, object]:
    text = JSONLines().format(record)
    assert "\n" not in text
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


def record_of(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("tensorgate.test", logging.INFO, __file__, 1, message, arguments, None)


def test_a_line_is_one_json_object_whatever_it_says() -> None:
    line = line_of(record_of('a\n{"level": "error"} %s', "\x1b[31m\r\n"))

    assert line["message"] == 'a\n{"level": "error"} \x1b[31m\r\n'
    assert (line["level"], line["logger"]) == ("info", "tensorgate.test")


def test_a_line_says_when_in_universal_time() -> None:
    record = record_of("now")
    record.created, record.msecs = 1_700_000_000.25, 250.0

    assert line_of(record)["time"] == "2023-11-14T22:13:20.250Z"


def test_fields_are_members() -> None:
    record = record_of("request")
    record.fields = {"status": 200}

    assert line_of(record)["status"] == 200


def test_a_trace_is_a_member() -> None:
    record = record_of("failed")
    try:
        raise OSError("why")
    except OSError:
        record.exc_info = sys.exc_info()

    assert "OSError: why" in str(line_of(record)["trace"])


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of one page, which blocks whoever writes more."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def handler_on(descriptor: int) -> logging.Handler:
    handler = UnhurriedHandler(descriptor)
    handler.setFormatter(JSONLines())
    return handler


def read_lines(reading: int, handler: logging.Handler) -> list[dict[str, object]]:
    """Every line, read while the handler writes what can be written."""
    os.set_blocking(reading, False)
    received = b""
    while True:
        handler.flush()
        try:
            received += os.read(reading, 65536)
        except BlockingIOError:
            return [json.loads(line) for line in received.splitlines()]


def test_a_reader_that_is_stuck_stops_nobody_and_gets_every_line_later(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    handler = handler_on(writing)
    for number in range(1000):
        handler.handle(record_of("line %d", number))

    lines = read_lines(reading, handler)

    assert [line["message"] for line in lines] == [f"line {number}" for number in range(1000)]


def test_the_oldest_of_too_many_lines_are_lost_and_counted(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = handler_on(writing)
    written = 12_000
    for number in range(written):
        handler.handle(record_of("line %d", number))

    messages = [str(line["message"]) for line in read_lines(reading, handler)]

    lost = [message for message in messages if message.endswith("lines of the log were lost")]
    assert len(lost) == 1
    assert int(lost[0].split()[0]) + len(messages) - 1 == written
    assert messages[-1] == f"line {written - 1}"


def test_a_line_longer_than_a_pipe_takes_at_once_arrives_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = handler_on(writing)
    handler.handle(record_of("x" * 100_000))

    assert read_lines(reading, handler)[0]["message"] == "x" * 100_000
