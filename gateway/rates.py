"""How many pictures each key and each address may ask for, counted over all worker processes.

For each caller there is one number in shared memory: the time at which all that it has asked for
will have been paid off, a picture every so many nanoseconds (the generic cell rate algorithm, ITU-T
I.371). A caller who has paid everything off is as good as unknown, and its place is free.

The memory is bounded. A caller's place is in a set of eight, chosen by a hash whose key nobody
knows; when all eight are taken, the one who owes least is forgotten. To be forgotten is to be
allowed more, never less: who comes from very many addresses makes limits loose for those who owe
little, and can neither use up somebody's allowance nor clear what he owes himself.
"""

import fcntl
import hashlib
import math
import mmap
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from gateway.callers import Caller, limited_as
from gateway.errors import RateLimited
from gateway.shared_words import nameless_file

PERIODS = {"second": 1, "minute": 60, "hour": 3600}
MOST_PICTURES = 1_000_000
SETS = {"key": 512, "address": 8192}
"""Room for 4,096 keys, of which there are never more than 1,000, and for 65,536 addresses."""
WAYS = 8
WHOSE = {"key": "This API key", "address": "Your address"}
LOCK_PATIENCE = 0.02
"""Seconds that are waited for another process to leave a set.

It needs microseconds. One that was stopped in the middle must not stop all others with it: after
this we go on without the lock, and may count a picture too few.
"""

_WORD = 8
_SECOND = 1_000_000_000
_RATE = re.compile(r"(key|address)=([0-9]{1,7})/(second|minute|hour)")


@dataclass(frozen=True)
class Rate:
    """So many pictures in a period: all at once, and again as they are paid off evenly.

    of: what is counted by, `key` or `address`.
    """

    of: str
    pictures: int
    period: str

    @property
    def each(self) -> int:
        """Nanoseconds in which one picture is paid off."""
        return PERIODS[self.period] * _SECOND // self.pictures


def parse_rates(value: str) -> tuple[Rate, ...]:
    """Limits as they are written in a setting: `key=600/minute,address=60/minute`, or one of both.

    Raises:
        ValueError: it is neither that nor empty.
    """
    rates: dict[str, Rate] = {}
    for item in value.split(",") if value.strip() else ():
        found = _RATE.fullmatch(item.strip())
        if found is None or found[1] in rates or not 1 <= int(found[2]) <= MOST_PICTURES:
            raise ValueError(
                "must be key=600/minute, address=60/minute or both with a comma: from 1 to "
                f"{MOST_PICTURES} pictures a second, minute or hour"
            )
        rates[found[1]] = Rate(found[1], int(found[2]), found[3])
    return tuple(rates.values())


class Debts:
    """Until when each caller's pictures are paid off, in memory that forked processes share.

    Made before the fork. One thread of a process at a time may use it.
    """

    def __init__(self, sets: int) -> None:
        self._sets = sets
        self._secret = secrets.token_bytes(16)
        self._file = nameless_file("rate-limits")
        os.ftruncate(self._file, sets * WAYS * 2 * _WORD)
        self._words = memoryview(mmap.mmap(self._file, 0)).cast("Q")

    def mark_of(self, who: str) -> int:
        """What a caller is known by here: 64 bits, of which nobody outside can compute any."""
        digest = hashlib.blake2b(who.encode(), key=self._secret, digest_size=_WORD).digest()
        return int.from_bytes(digest, "big") or 1

    @contextmanager
    def locked(self, mark: int) -> Iterator[None]:
        """Keep other processes from a caller's set for the block, which must be short."""
        number = mark % self._sets
        taken = self._take_lock(number)
        try:
            yield
        finally:
            if taken:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def _take_lock(self, number: int) -> bool:
        """Take a set's lock, which the kernel gives back if this process dies."""
        end = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
                return True
            except (BlockingIOError, PermissionError):
                if time.monotonic() > end:
                    return False
                time.sleep(0.0001)

    def read(self, mark: int) -> int:
        """Until when a caller's pictures are paid off; 0 of one who is not known."""
        return next(
            (self._words[way + 1] for way in self._ways(mark) if self._words[way] == mark), 0
        )

    def write(self, mark: int, until: int) -> None:
        """Note until when a caller's pictures are paid off."""
        ways = self._ways(mark)
        own = (way for way in ways if self._words[way] == mark)
        way = next(own, None)
        if way is None:
            way = min(ways, key=lambda each: self._words[each + 1])
        self._words[way] = mark
        self._words[way + 1] = until

    def _ways(self, mark: int) -> range:
        """Where a caller may stand: the index of each mark, with its time behind it."""
        first = mark % self._sets * WAYS * 2
        return range(first, first + WAYS * 2, 2)


@dataclass(frozen=True)
class _Account:
    """One caller's debt under one rate, inside `Debts.locked`."""

    debts: Debts
    mark: int
    rate: Rate

    def wait(self, pictures: int, paid: int, now: int) -> int:
        """Nanoseconds until so many pictures, of which some are paid, may be asked for.

        More pictures than the rate has are allowed once nothing is owed.
        """
        owed = max(0, self.debts.read(self.mark) - now)
        without_own = max(0, owed - paid * self.rate.each)
        room = (self.rate.pictures - min(pictures, self.rate.pictures)) * self.rate.each
        return 0 if without_own <= room else owed - room

    def charge(self, pictures: int, paid: int, now: int) -> None:
        """Owe so many pictures, of which some are paid."""
        owed = max(0, self.debts.read(self.mark) - now - paid * self.rate.each)
        self.debts.write(self.mark, now + owed + pictures * self.rate.each)


class RateLimits:
    """The limits of a gateway, over all its workers. Made before they fork.

    Args:
        rates: what is allowed.
        clock: nanoseconds of a clock that all processes share.
    """

    def __init__(
        self, rates: Sequence[Rate] = (), clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._clock = clock
        self._threads = threading.Lock()
        self._debts = [(rate, Debts(SETS[rate.of])) for rate in rates]

    def charge(self, caller: Caller, pictures: int, *, paid: int = 0) -> None:
        """Count pictures that a caller asks for, of which `paid` have been counted before.

        Raises:
            RateLimited: it has to wait; nothing more has been counted.
        """
        accounts = [
            _Account(debts, debts.mark_of(who), rate)
            for rate, debts in self._debts
            if (who := caller.key if rate.of == "key" else limited_as(caller.address))
        ]
        if not accounts:
            return
        with self._threads, ExitStack() as locks:
            for account in accounts:
                locks.enter_context(account.debts.locked(account.mark))
            now = self._clock()
            waits = [(account.wait(pictures, paid, now), account) for account in accounts]
            longest, account = max(waits, key=lambda each: each[0])
            if longest:
                raise _refusal(account, longest)
            for account in accounts:
                account.charge(pictures, paid, now)


def _refusal(account: _Account, wait: int) -> RateLimited:
    rate, seconds = account.rate, math.ceil(wait / _SECOND)
    return RateLimited(
        f"{WHOSE[rate.of]} may ask for {rate.pictures} pictures a {rate.period}: "
        f"try again in {seconds} s.",
        retry_after=seconds,
    )
