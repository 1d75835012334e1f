"""The guards of the gateway: without each of them, rows for it must fail.

    .venv/test/bin/python -m tests.support.guards            all of them, one line for each
    .venv/test/bin/python -m tests.support.guards NAME …     these

A test that fails without what it guards is worth something; one that passes guards nothing. With
WITHOUT_GUARD set, this module is the gateway without the guard of that name.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import ssl
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from PIL import Image

from gateway import admission
from gateway.__main__ import main as run_gateway
from gateway.cancellation import Cancellation
from gateway.errors import URLNotAllowed
from gateway.model_client import guards as model_guards
from gateway.model_client import retries, statuses
from gateway.routes import bodies, strict_json
from gateway.scoring import decode_child, decode_process, images, picture_file, score
from gateway.scoring.fetch import addresses, connection, fetcher, response, transport, url, waiting
from gateway.server import head, refusals
from gateway.server.connection import Connection
from gateway.server.head import Head

ROOT = Path(__file__).parents[2]
PROCESS = "tests/integration/test_fetch_process.py"
PICTURES = "tests/integration/test_hostile_pictures.py"
REQUESTS = "tests/integration/test_hostile_requests.py"
BROKEN = "tests/integration/test_broken_requests.py"
PLACES = "tests/integration/test_fetch_places.py"
FAULTS = "tests/integration/test_model_faults.py"
OUTAGES = "tests/integration/test_model_outages.py"
Remove = Callable[[], object]


@dataclass(frozen=True)
class Guard:
    """What takes a guard out, and the rows that must notice: a file, and an expression for -k."""

    remove: Remove
    rows: str
    file: str = PROCESS


def put(holder: object, name: str, value: object) -> Remove:
    """A removal that replaces one name."""
    return lambda: setattr(holder, name, value)


def read_first(change: Callable[[str], str]) -> Remove:
    """A removal that has a URL's authority changed before it is read."""
    strict = url._split_authority
    return put(url, "_split_authority", lambda authority: strict(change(authority)))


def judge_the_first(self: Any, parsed: Any, patience: Any) -> Any:
    """Judge one address of a name and dial any."""
    found = self._addresses(parsed, patience)
    if not self._policy.admits(found[0], parsed.port):
        raise fetcher.NotAdmitted("not allowed")
    return found


_judged = fetcher.Fetcher._judged


def look_up_again(self: Any, parsed: Any, patience: Any) -> Any:
    """Judge what a name was and dial what it is."""
    _judged(self, parsed, patience)
    return self._addresses(parsed, patience)


def follow(self: Any, before: Any, location: str) -> Any:
    """Follow a redirect as if it had been judged."""
    following = url.join(before, location, self._policy)
    self._policy = Anything(self._policy.ports, self._policy.networks)
    return following


class Anything(addresses.FetchPolicy):
    """A policy that admits every address."""

    def admits(self, *_: object) -> bool:
        return True


class Every:
    """Equal to every status."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def trust_anybody(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


def trust_the_weak(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")


def tls(change: Callable[[ssl.SSLContext], None]) -> Remove:
    """A removal that changes how hosts prove who they are."""
    strict = ssl.create_default_context

    def lax(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = strict(*arguments, **options)
        change(context)
        return context

    return put(ssl, "create_default_context", lax)


_parse_head = response.parse_head


def ignore_coding(block: bytes) -> response.Head:
    return dataclasses.replace(_parse_head(block), encoded=False)


def tell_why(message: str, *, log_detail: str = "") -> Exception:
    return URLNotAllowed(log_detail or message)


def never_stuck(places: Any, key: Any, patience: Any) -> None:
    """Wait for a place until the deadline."""
    places._changed.wait(patience.check())


def any_call(circuit: model_guards.Circuit, _seconds: float) -> bool:
    """Make every call, whatever the circuit's state."""
    return circuit.state is not model_guards.State.CLOSED


class AnyNumbers:
    """numpy to a module for which all numbers are finite."""

    ndarray = np.ndarray
    uint8 = np.uint8
    zeros = staticmethod(np.zeros)
    zeros_like = staticmethod(np.zeros_like)
    isfinite = staticmethod(np.ones_like)


FULL_QUEUE = "batch scheduling queue"

GUARDS = {
    "IPv4 ranges": Guard(put(addresses, "IPV4_REFUSED", ()), "A1 or A7 or A20 or A21"),
    "IPv6 outside 2000::/3": Guard(
        put(addresses, "IPV6_GLOBAL", IPv6Network("::/0")),
        "A8 or A9 or A10 or A11 or A12 or A13 or A14 or A15 or A19",
    ),
    "IPv6 special ranges": Guard(put(addresses, "IPV6_REFUSED", ()), "A16 or A17"),
    "ISATAP": Guard(put(addresses, "ISATAP_INTERFACES", ()), "A18"),
    "every address judged": Guard(
        put(fetcher.Fetcher, "_judged", judge_the_first), "A34 and allowed and another"
    ),
    "the judged address dialed": Guard(
        put(fetcher.Fetcher, "_judged", look_up_again), "moves_inside"
    ),
    "forms of IPv4": Guard(put(url, "_NUMBER", re.compile("(?!)")), "A2 or A3 or A4 or A5 or A6"),
    "no user": Guard(read_first(lambda text: text.rpartition("@")[2]), "A24"),
    "ASCII hosts": Guard(read_first(lambda text: unicodedata.normalize("NFKC", text)), "A22"),
    "no percent sign": Guard(
        read_first(lambda text: unquote(text).partition("\0")[0]), "A23 and percent"
    ),
    "characters": Guard(put(url, "_check_characters", lambda _url: None), "A25 or A27 or A31"),
    "schemes": Guard(
        put(url, "_URL", re.compile(url._URL.pattern.replace("https?", "[a-z]+"), re.I)),
        "A28",
    ),
    "ports": Guard(put(addresses.FetchPolicy, "admits_port", lambda _self, _port: True), "A30"),
    "redirects judged": Guard(put(fetcher.Fetcher, "_next", follow), "A32 and loopback"),
    "https kept": Guard(put(fetcher.Fetcher, "_next", follow), "https_is_not_left"),
    "few redirects": Guard(put(fetcher, "MAX_REDIRECTS", 9), "chain_of_four"),
    "own calls known": Guard(put(Head, "passed", lambda _self, _token: False), "own_name"),
    "the clock": Guard(
        put(waiting.Patience, "check", lambda _self: waiting.CANCEL_INTERVAL),
        "B3 and silence and head",
    ),
    "sizes": Guard(put(waiting.Allowance, "grow_to", lambda _self, _size: None), "B4 or B5"),
    "one length": Guard(put(response, "_LENGTH", re.compile(rb".*")), "B7"),
    "no coding": Guard(put(response, "parse_head", ignore_coding), "B8"),
    "chunk sizes": Guard(
        put(response, "_CHUNK_LINE", re.compile(rb"-?(?:0x)?([0-9A-Fa-f_]+)(;.*)?")), "B9"
    ),
    "short heads": Guard(put(response, "HEAD_BYTES", 2**40), "B10 or B11"),
    "status lines": Guard(
        put(response, "_STATUS_LINE", re.compile(rb"(?i)\s*HTTP/([0-9.]+)\s+([0-9]+)(.*)")), "B14"
    ),
    "certificates": Guard(tls(trust_anybody), "B15"),
    "strength of TLS": Guard(tls(trust_the_weak), "B15 and (SHA or 1024 or 1.0)"),
    "only 200": Guard(put(transport, "FOUND", Every()), "B12 or B17"),
    "clean connections": Guard(
        put(connection.Connection, "is_idle", lambda _self: True), "behind_an_answer"
    ),
    "the floor": Guard(put(fetcher, "FLOOR_SECONDS", 0), "same_bytes"),
    "one text": Guard(put(fetcher, "URLNotAllowed", tell_why), "same_bytes"),
    "places of a host": Guard(
        put(waiting.Places, "_free", lambda _self, _key, _request: True), "silent", PLACES
    ),
    "stuck hosts": Guard(put(waiting.Places, "_wait", never_stuck), "callers_of_one", PLACES),
    "few calls again": Guard(
        put(model_guards.RetryBudget, "spend", lambda _self: True), "every_second", OUTAGES
    ),
    "calls again": Guard(
        put(retries.Retries, "run", lambda _self, attempt, question: attempt(question)),
        "F5 or F7 or reset or cut_off",
        FAULTS,
    ),
    "a full queue is no outage": Guard(
        put(statuses, "OUTCOMES", tuple(row for row in statuses.OUTCOMES if row[1] != FULL_QUEUE)),
        "F9 and queue",
        FAULTS,
    ),
    "finite scores": Guard(put(score, "np", AnyNumbers), "F14 and (NaN or Inf)", FAULTS),
    "the circuit": Guard(
        put(model_guards.Circuit, "_failed", lambda *_, **__: None), "open_circuit", OUTAGES
    ),
    "one call decides": Guard(
        put(model_guards.Circuit, "_enter", any_call), "one_call_closes", OUTAGES
    ),
    "time that a call must have had": Guard(
        put(model_guards.Circuit, "_min_time", property(lambda _: 0.0, lambda _self, _: None)),
        "leave_little",
        OUTAGES,
    ),
    "who hangs up ends calls": Guard(
        put(Cancellation, "ending", lambda _self, _end: contextlib.nullcontext()),
        "hangs_up",
        OUTAGES,
    ),
}


def read_loosely(data: bytes, _deadline: object) -> Any:
    """Open a picture of any format that Pillow knows."""
    return Image.open(io.BytesIO(data))


GUARDS |= {
    "few pixels": Guard(
        put(images, "_check_pixels", lambda _size, _most: None), "C7 or C15 or C20", PICTURES
    ),
    "formats": Guard(put(images, "open_picture", read_loosely), "C17", PICTURES),
    "no texts in a picture": Guard(put(picture_file, "_LEAN", {}), "C8 or memory", PICTURES),
    "one reading of JSON": Guard(
        put(strict_json, "_DECODER", json.JSONDecoder()), "D3 or D4 or D7 or named", REQUESTS
    ),
    "small JSON": Guard(put(bodies, "_check_size", lambda _body, _most: None), "limit", REQUESTS),
    "one framing": Guard(put(head, "_check_framing", lambda _fields: None), "coding", BROKEN),
    "one host": Guard(put(head, "_host", lambda _fields: "gateway.test"), "host", BROKEN),
    "targets": Guard(put(head, "_origin_form", lambda target, _host: target), "target", BROKEN),
    "few fields": Guard(put(refusals, "MAX_HEADER_FIELDS", 10**6), "200-fields", BROKEN),
    "time for heads": Guard(
        put(Connection, "_head_late", lambda _self: None), "head-stalls", BROKEN
    ),
    "small bodies": Guard(
        put(admission.BodyLimits, "limit", lambda _self, _type: 2**40), "chunk-huge", BROKEN
    ),
}


def rows_that_fail(name: str) -> tuple[int, int]:
    """How many of a guard's rows fail without it, and how many there are."""
    guard = GUARDS[name]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", guard.file, "-k", guard.rows],
        cwd=ROOT,
        env={**os.environ, "WITHOUT_GUARD": name},
        capture_output=True,
        text=True,
        check=False,
    )
    last = ran.stdout.splitlines()[-1] if ran.stdout else ran.stderr
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (failed|passed)", last)}
    if not counts:
        raise RuntimeError(f"no rows of {name!r} ran: {last}")
    return counts.get("failed", 0), sum(counts.values())


def main(names: list[str]) -> int:
    """Try guards and print what came of it; 1 if one can be missing unnoticed."""
    unnoticed = 0
    for name in names or GUARDS:
        failed, ran = rows_that_fail(name)
        unnoticed += not failed
        print(f"without {name:30} {failed:3} of {ran:3} rows fail", flush=True)
    return 1 if unnoticed else 0


def run_without(name: str) -> int | None:
    """The gateway without that guard, or one of its decode children, which has two arguments."""
    GUARDS[name].remove()
    if len(sys.argv) == 3:
        decode_child.main()
        return 0
    put(decode_process, "PROGRAM", "tests.support.guards")()
    put(decode_process, "PASSED_ON", (*decode_process.PASSED_ON, "WITHOUT_GUARD"))()
    return run_gateway()


if __name__ == "__main__":
    if "WITHOUT_GUARD" in os.environ:
        sys.exit(run_without(os.environ["WITHOUT_GUARD"]))
    sys.exit(main(sys.argv[1:]))
