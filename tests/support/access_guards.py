"""The guards of who may call: without each of them, rows for it must fail.

    .venv/test/bin/python -m tests.support.access_guards            all of them, one line for each
    .venv/test/bin/python -m tests.support.access_guards NAME …     these

With WITHOUT_GUARD set, this module is the dummy gateway without the guard of that name.
"""

import dataclasses
import os
import re
import sys
from typing import Any

from gateway import access, callers, keys, logs, rates
from gateway.__main__ import start
from gateway.server import answers
from gateway.settings import Settings
from tests.support import guards
from tests.support.dummy_gateway import make_application
from tests.support.guards import Guard, put

ROWS = "tests/integration/test_access.py"
KEY_FIELDS = ("authorization", "x-api-key")

_check_key = access.Access.check_key
_shown_key = access._shown_key
_init_debts = rates.Debts.__init__


def body_first(self: Any, head: Any, caller: Any) -> Any:
    """Ask for a key only where there is no body to come."""
    return caller if head.content_length else _check_key(self, head, caller)


def first_of_several(head: Any) -> str:
    """Believe the first of several keys."""
    shown = [(name, value) for name, value in head.headers if name in KEY_FIELDS]
    others = [(name, value) for name, value in head.headers if name not in KEY_FIELDS]
    return _shown_key(dataclasses.replace(head, headers=(*others, *shown[:1])))


def of_one_process(self: Any, sets: int) -> None:
    """Count in memory that each process has a copy of."""
    _init_debts(self, sets)
    self._words = memoryview(bytearray(self._words)).cast("Q")


def leftmost(peer: str, forwarded: Any, _proxies: object) -> callers.Caller:
    """Believe whoever is named first."""
    return callers.Caller(",".join(forwarded).partition(",")[0] or peer)


def guard(remove: guards.Remove, rows: str) -> Guard:
    return Guard(remove, rows, ROWS)


GUARDS = {
    "API keys": guard(
        put(access.Access, "check_key", lambda _self, _head, caller: caller), "right_key"
    ),
    "one key": guard(put(access, "_shown_key", first_of_several), "right_key"),
    "keys before bodies": guard(put(access.Access, "check_key", body_first), "before or body_of"),
    "probes alone are open": guard(
        put(access, "_open_to_all", lambda head: head.path.startswith(("/health", "/readyz"))),
        "probe or body_of",
    ),
    "keys of now": guard(put(keys.KeyRing, "refresh", lambda _self: None), "rotated"),
    "rates": guard(
        put(rates.RateLimits, "charge", lambda _self, *_asked, **_paid: None),
        "limit and not pictures",
    ),
    "rates over processes": guard(
        put(rates.Debts, "__init__", of_one_process), "over_all_processes"
    ),
    "believed proxies": guard(put(access, "find_caller", leftmost), "prox"),
    "no keys in the log": guard(put(logs, "_KEY", re.compile("(?!)")), "no_line_holds"),
    "headers for browsers": guard(put(answers, "PROTECTION", ()), "browser"),
}


if __name__ == "__main__":
    guards.GUARDS.update(GUARDS)
    if "WITHOUT_GUARD" in os.environ:
        guards.GUARDS[os.environ["WITHOUT_GUARD"]].remove()
        start(Settings.from_environment(), make_application)
    else:
        sys.exit(guards.main(sys.argv[1:] or list(GUARDS)))
