"""A host outside the cluster: a network namespace with an address that counts as public.

Needs root on the node. Pods are not masqueraded, so the namespace has a way back to them.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import wait_until

NAME = "tg-pictures"
GATE, HOST = "45.66.77.1", "45.66.77.10"
"""Nobody else is asked at these: they are routed into the namespace while it exists."""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def picture_host(folder: Path) -> Iterator[str]:
    """Serve a folder's files on port 80 of HOST; gives its address."""
    # What a run that was killed has left: its server may still hold the namespace, and so the link.
    for left in (("link", "delete", NAME), ("netns", "delete", NAME)):
        subprocess.run(["ip", *left], check=False, capture_output=True)
    _ip("netns", "add", NAME)
    try:
        _ip("link", "add", NAME, "type", "veth", "peer", "name", "eth0", "netns", NAME)
        _ip("address", "add", f"{GATE}/24", "dev", NAME)
        _ip("link", "set", NAME, "up")
        for arguments in (
            ("address", "add", f"{HOST}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", GATE),
        ):
            _ip("-netns", NAME, *arguments)
        server = [sys.executable, "-m", "http.server", "--directory", str(folder), "80"]
        with subprocess.Popen(
            ["ip", "netns", "exec", NAME, *server],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                wait_until(_listens, 20.0, "the picture host's port 80")
                yield HOST
            finally:
                process.terminate()
    finally:
        _ip("netns", "delete", NAME)


def _listens() -> bool:
    listeners = subprocess.run(
        ["ip", "netns", "exec", NAME, "ss", "-ltnH"], capture_output=True, text=True, check=True
    )
    return ":80 " in listeners.stdout
