"""Lines of the log."""

import json
import logging
import sys

from gateway.logs import JSONLines


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
