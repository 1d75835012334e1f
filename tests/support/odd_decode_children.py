"""Decode children that do wrong, each named for its fault; `use` has one of them started."""

import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from gateway.scoring import decode_child, decode_process, images

GREETING = {"resident": 1}


def use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the children that are started from now on be this one."""
    monkeypatch.setattr(decode_process, "PROGRAM", f"{__name__}")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.setattr(decode_process, "PASSED_ON", (*decode_process.PASSED_ON, "ODD_CHILD"))
    monkeypatch.setenv("ODD_CHILD", name)


def tight() -> None:
    """The real one, which foretells next to no memory and has no room beside it."""
    with patch.object(images, "memory_needed", lambda *_: 1), patch.object(decode_child, "ROOM", 0):
        decode_child.main()


def short() -> None:
    """The real one, which foretells enough for a JPEG's pixels, and not for its coefficients."""
    foretell = patch.object(images, "memory_needed", lambda reader, _: reader.width * reader.height)
    with foretell, patch.object(decode_child, "ROOM", 24 * 1024 * 1024):
        decode_child.main()


def greedy() -> None:
    """The real one, which keeps a block of memory after each picture."""
    kept = []

    def decode(*arguments: Any) -> Any:
        kept.append(b"x" * (40 * 1024 * 1024))
        kept.append(b"x" * (40 * 1024 * 1024))
        return images.decode(*arguments)

    with patch.object(decode_child, "decode", decode):
        decode_child.main()


def crashing() -> None:
    """The real one, whose decoder ends as a broken C library does."""

    with patch.object(decode_child, "decode", lambda *_: os.abort()):
        decode_child.main()


def unable() -> None:
    """It cannot even start."""
    sys.exit(7)


def answering(*answers: object) -> Callable[[], None]:
    """A child that says these to every picture, one after each message of its worker."""

    def child() -> None:
        control = socket.socket(fileno=0)
        control.send(json.dumps(GREETING).encode() + b"\n")
        for answer in answers:
            control.recv(100_000)
            text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            control.send(text + b"\n")
        control.recv(100_000)

    return child


PIXELS = {"pixels": "|u1", "resident": 1}
CHILDREN: dict[str, Callable[[], None]] = {
    "tight": tight,
    "short": short,
    "greedy": greedy,
    "crashing": crashing,
    "unable": unable,
}
LYING: dict[str, Callable[[], None]] = {
    "no JSON": answering(b"\xff\xfe"),
    "no object": answering([1, 2]),
    "no end": answering(b"x" * 100_000),
    "no words": answering({}),
    "less than no memory": answering({"needed": -5}),
    "memory that is no number": answering({"needed": "all"}),
    "objects for pixels": answering({"needed": 1}, {**PIXELS, "pixels": "|O"}),
    "pixels that are not there": answering({"needed": 1}, PIXELS),
    "an unknown error": answering({"error": "model-failed", "message": "x", "detail": "x"}),
    "a size that is no number": answering({**PIXELS, "resident": None}),
}

if __name__ == "__main__":
    (CHILDREN | LYING)[os.environ["ODD_CHILD"]]()
