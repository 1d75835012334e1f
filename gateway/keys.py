"""API keys: made here, kept in a file as hashes, found again by what a caller shows.

A key is 256 random bits. One SHA-256 is therefore enough to keep it: a slow hash such as Argon2
makes it dear to try the few passwords that people choose, and nobody can try 2 to the power of 256
keys; here it would only let strangers have us compute. For the same reason a key must look like
one of ours before it is hashed: nobody can put a password in place of it.

`python -m gateway.keys new NAME` makes one and prints it, this once, and its line for the file.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = "tensorgate_"
"""What scanners for secrets, in code that somebody publishes, know a key of ours by."""
MOST_KEYS = 1000
MOST_BYTES = 256 * 1024
"""Of a file of keys."""
COMPLAINT_SECONDS = 60.0
"""How often the log repeats that the file is broken."""

_KEY = re.compile(PREFIX + "[A-Za-z0-9_-]{43}")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})[ \t]+sha256:([0-9a-f]{64})")
_LINE_IS = "a name of A-Z a-z 0-9 . _ - (at most 64), a space, sha256: and 64 digits of 0-9 a-f"

logger = logging.getLogger("tensorgate.keys")


class BrokenKeys(ValueError):
    """A file of keys cannot be used; the message says why and repeats nothing of it."""


@dataclass(frozen=True)
class HashedKey:
    """A key as it is kept: its name, and the SHA-256 of its text."""

    name: str
    digest: bytes


def new_key() -> str:
    """A key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> bytes:
    """The hash that is kept of a key."""
    return hashlib.sha256(key.encode("ascii")).digest()


def line_of(name: str, key: str) -> str:
    """A key's line for the file."""
    return f"{name} sha256:{digest_of(key).hex()}"


def read_content(path: Path) -> bytes:
    """What a file of keys holds.

    Raises:
        BrokenKeys: it cannot be read, is no plain file, or is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BrokenKeys("it is not a plain file")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BrokenKeys(f"it cannot be read ({os.strerror(error.errno or 0)})") from error
    if len(content) > MOST_BYTES:
        raise BrokenKeys(f"it has more than {MOST_BYTES} bytes")
    return content


def parse(content: bytes) -> tuple[HashedKey, ...]:
    """The keys of a file: one a line, empty lines and those that begin with # left out.

    Raises:
        BrokenKeys: a line is wrong, a name or key is there twice, or there is no key at all, as in
            a file that is just being written.
    """
    keys: list[HashedKey] = []
    for number, line in enumerate(content.decode("latin-1").split("\n"), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            keys.append(_parse_line(number, text))
    if not keys:
        raise BrokenKeys("it holds no key")
    if len(keys) > MOST_KEYS:
        raise BrokenKeys(f"it holds more than {MOST_KEYS} keys")
    if len({key.name for key in keys}) < len(keys):
        raise BrokenKeys("it gives two keys one name")
    if len({key.digest for key in keys}) < len(keys):
        raise BrokenKeys("it gives one key two names")
    return tuple(keys)


def _parse_line(number: int, text: str) -> HashedKey:
    found = _LINE.fullmatch(text)
    if found is None:
        raise BrokenKeys(f"line {number} is not {_LINE_IS}")
    return HashedKey(found[1], bytes.fromhex(found[2]))


class KeyRing:
    """The keys of a file, taken anew when it changes: each process has its own.

    Args:
        path: the file. A symbolic link may be turned to another file, as Kubernetes does with a
            Secret: what counts is what is read.

    Raises:
        BrokenKeys: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = read_content(path)
        self._keys = parse(self._content)
        self._last_look: tuple[bytes, str] = (self._content, "")
        self._complained: tuple[bytes, str] | None = None
        self._complain_again = 0.0

    @property
    def broken(self) -> bool:
        """Whether the file is known to be broken, and the keys before it are used."""
        return self._complained is not None

    def find(self, shown: str) -> str | None:
        """The name of the key that a caller shows; None when it is none of them.

        Every digest is compared, each in constant time: how long it takes tells nothing.
        """
        if not _KEY.fullmatch(shown):
            return None
        digest = digest_of(shown)
        found: str | None = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key.name
        return found

    def refresh(self) -> None:
        """Look at the file; to be called about once a second.

        What it holds is taken when two looks in a row have seen the same, so that a file that is
        being written is not taken half. While it is broken the keys stay as they are.
        """
        look = self._look()
        settled, self._last_look = look == self._last_look, look
        if look == (self._content, ""):
            self._complained = None
            return
        if not settled:
            return
        content, broken = look
        try:
            if broken:
                raise BrokenKeys(broken)
            self._take(content, parse(content))
        except BrokenKeys as error:
            self._complain(look, str(error))

    def _look(self) -> tuple[bytes, str]:
        """What the file holds now, or why it cannot be read."""
        try:
            return read_content(self._path), ""
        except BrokenKeys as error:
            return b"", str(error)

    def _take(self, content: bytes, keys: tuple[HashedKey, ...]) -> None:
        before, after = set(self._keys), set(keys)
        fields = {
            "process": os.getpid(),
            "keys": len(keys),
            "new": sorted(key.name for key in after - before),
            "gone": sorted(key.name for key in before - after),
        }
        self._content, self._keys, self._complained = content, keys, None
        logger.info("API keys taken", extra={"fields": fields})

    def _complain(self, look: tuple[bytes, str], why: str) -> None:
        now = time.monotonic()
        if look == self._complained and now < self._complain_again:
            return
        self._complained, self._complain_again = look, now + COMPLAINT_SECONDS
        fields = {"process": os.getpid(), "file": str(self._path), "detail": why}
        logger.error("API_KEYS_FILE is broken: the keys before it stay", extra={"fields": fields})


def main(arguments: list[str]) -> int:
    """Make a key; the answer is the process's exit code."""
    if (
        len(arguments) != 2
        or arguments[0] != "new"
        or not _LINE.fullmatch(f"{arguments[1]} sha256:{'0' * 64}")
    ):
        print(
            "usage: python -m gateway.keys new NAME\n"
            "NAME says in the log whose key it is: at most 64 of A-Z a-z 0-9 . _ -",
            file=sys.stderr,
        )
        return 2
    key = new_key()
    print("Give this key to the caller. It is shown this once and kept nowhere:", file=sys.stderr)
    print(key)
    print("Add this line to the file that API_KEYS_FILE names:", file=sys.stderr)
    print(line_of(arguments[1], key))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
