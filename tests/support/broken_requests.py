"""The broken requests of tests/data/broken_requests, as bytes and what they must be answered.

A file has `name: value` lines, `---`, and the request. In the request a line's end is nothing: what
is meant is written, as `\\r\\n`. `\\r`, `\\n`, `\\t`, `\\0`, `\\xHH` are single bytes, and
`<<text*count>>` is the text so many times.
"""

import re
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).parents[1] / "data" / "broken_requests"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.http"))

_BYTES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0"}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([rnt0]))")
_REPEATED = re.compile(rb"<<(.+?)\*([0-9]+)>>")


@dataclass(frozen=True)
class BrokenRequest:
    """One request.

    says: what is wrong with it.
    cases: rows of the list of hostile cases that it belongs to.
    status, slug: what the gateway answers.
    repaired: whether a proxy may make a sound request of it and pass that on.
    data: its bytes.
    """

    says: str
    cases: tuple[str, ...]
    status: int
    slug: str
    repaired: bool
    data: bytes


def load(name: str) -> BrokenRequest:
    """The request of that file."""
    head, _, text = (DIRECTORY / f"{name}.http").read_text("ascii").partition("---\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    status, slug = fields["answer"].split()
    repaired = fields.get("through") == "repaired"
    cases = tuple(fields.get("case", "").split())
    return BrokenRequest(fields["says"], cases, int(status), slug, repaired, _bytes(text))


def _bytes(text: str) -> bytes:
    joined = text.replace("\n", "").encode("ascii")
    whole = _REPEATED.sub(lambda found: found[1] * int(found[2]), joined)
    return _ESCAPE.sub(
        lambda e: bytes.fromhex(e[1].decode()) if e[1] else _BYTES[e[2].decode()], whole
    )
