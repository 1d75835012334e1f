"""Good and hostile callers of a running gateway, each again and again on a thread of its own."""

import base64
import contextlib
import itertools
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np

from tests.support import broken_requests
from tests.support.hostile_pictures import (
    gif_with_first_picture,
    jpeg_header_only,
    jpeg_of_many_scans,
    mangled,
    png_header_only,
    png_of_many_texts,
)
from tests.support.picture_host import PictureHost
from tests.support.pictures import KINDS, with_png_chunks
from tests.support.processes import Gateway
from tests.support.server_process import post

Caller = Callable[[], str]
"""Asks once; how it was answered, as `200` or `closed`."""

PICTURES = {
    "jpeg": KINDS["jpeg 4:2:0"](np.random.default_rng(0), (400, 533)),
    "png": KINDS["png rgba"](np.random.default_rng(0), (200, 150)),
    "webp": KINDS["webp"](np.random.default_rng(0), (200, 150)),
}
PLAIN = KINDS["png rgb"](np.random.default_rng(0), (20, 15))
BOMBS = (
    jpeg_header_only(65500, 65500),
    png_header_only(1, 200_000_000),
    gif_with_first_picture(0, 0, 12_000, 12_000),
    with_png_chunks(PLAIN, *png_of_many_texts(texts=20, unpacked=10_000_000)),
    jpeg_of_many_scans(side=500, scans=1000),
)
BODIES = (
    b"[" * 60_000,
    b'{"url": "a", "url": "b"}',
    b'{"url": NaN}',
    b'{"top": ' + b"9" * 5000 + b"}",
    b'{"url": "\\ud800"}',
)
URLS = (
    "http://127.0.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:127.0.0.1]/",
    "http://0x7f.1/",
    "file:///etc/passwd",
)


class Callers:
    """Calls each again and again while a `with` block runs, and counts how it was answered."""

    def __init__(self, callers: Sequence[Caller]) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        """How often by caller's name and answer."""
        self._callers = callers
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(len(callers), "caller")
        self._running: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._running = [self._pool.submit(self._repeat, each) for each in self._callers]
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for each in self._running:
            each.result()

    def alive(self) -> bool:
        """True, unless one has failed, which is raised."""
        for each in self._running:
            if each.done():
                each.result()
        return True

    def _repeat(self, caller: Caller) -> None:
        name = getattr(caller, "__name__", str(caller))
        while not self._stop.is_set():
            self.answered[name, caller()] += 1


def good_callers(made: Gateway, host: PictureHost) -> list[Caller]:
    """Callers whose every request is to be answered 200."""
    names, uploads = itertools.cycle(PICTURES), itertools.cycle(PICTURES.values())

    def fetches() -> str:
        return str(made.predict({"url": host.url(next(names))}).status)

    def fetches_several() -> str:
        return str(made.predict({"urls": [host.url(name) for name in PICTURES]}).status)

    def uploads_bytes() -> str:
        answer = made.ask("POST", "/predict", next(uploads), content_type="image/png")
        return str(answer.status)

    def uploads_json() -> str:
        encoded = base64.b64encode(PICTURES["jpeg"]).decode()
        return str(made.predict({"image": encoded, "top": 3}).status)

    return [fetches, fetches_several, uploads_bytes, uploads_json]


def hostile_callers(made: Gateway, host: PictureHost) -> list[Caller]:
    """Callers whose requests are to be refused, and those that hang up."""
    requests = itertools.cycle([broken_requests.load(name) for name in broken_requests.NAMES])
    bombs, bodies, urls = itertools.cycle(BOMBS), itertools.cycle(BODIES), itertools.cycle(URLS)
    seeds = itertools.count()
    whole = post("/predict", json.dumps({"url": host.url("silent")}).encode())

    def sends_broken_requests() -> str:
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(made.address, timeout=10) as connection,
        ):
            connection.sendall(next(requests).data)
            return connection.recv(1 << 16)[9:12].decode("latin-1")
        return "closed"

    def sends_bombs() -> str:
        answer = made.ask("POST", "/predict", next(bombs), content_type="image/png")
        return str(answer.status)

    def sends_mangled_pictures() -> str:
        data = mangled(np.random.default_rng(next(seeds)), PLAIN)
        return str(made.ask("POST", "/predict", data, content_type="image/png").status)

    def sends_bad_json() -> str:
        return str(made.ask("POST", "/predict", next(bodies)).status)

    def asks_for_inner_addresses() -> str:
        return str(made.predict({"url": next(urls)}).status)

    def asks_for_silent_hosts() -> str:
        return str(made.predict({"url": host.url("silent")}).status)

    def hangs_up() -> str:
        with socket.create_connection(made.address, timeout=10) as connection:
            connection.sendall(whole)
            with contextlib.suppress(TimeoutError):
                connection.settimeout(0.05)
                connection.recv(1)
        return "closed"

    return [
        sends_broken_requests,
        sends_bombs,
        sends_mangled_pictures,
        sends_bad_json,
        asks_for_inner_addresses,
        asks_for_silent_hosts,
        hangs_up,
    ]
