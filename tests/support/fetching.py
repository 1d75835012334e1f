"""Fetchers for tests: the product's own, allowed to fetch from the given loopback hosts."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.deadline import Deadline
from gateway.errors import GatewayError
from gateway.scoring.fetch import Fetcher
from gateway.scoring.fetch.resolve import NameServers, Resolver
from gateway.settings import Settings
from tests.support.hostile_origin import HostileOrigin
from tests.support.zone_server import ZoneServer

UNHURRIED = 60.0
"""Seconds for what must not end by the clock."""
LOOKUP_TIMEOUT = 1.0


@contextmanager
def fetching(
    *origins: HostileOrigin,
    names: ZoneServer | None = None,
    tls: ssl.SSLContext | None = None,
    **settings: str,
) -> Iterator[Fetcher]:
    """A fetcher that may fetch from 127.0.0.1 at the hosts' ports and asks this name server."""
    allowed = ",".join(f"127.0.0.1/32:{origin.port}" for origin in origins)
    environment = {"ALLOWED_NETWORKS": allowed, "FETCH_TIMEOUT": str(UNHURRIED), **settings}
    servers = NameServers((("127.0.0.1", names.port),)) if names else NameServers()
    resolver = Resolver(servers, timeout=LOOKUP_TIMEOUT)
    fetcher = Fetcher(Settings.from_environment(environment), resolver, tls)
    try:
        yield fetcher
    finally:
        fetcher.close()


def fetch(fetcher: Fetcher, url: str) -> bytes:
    """The bytes of a URL, with time enough."""
    return fetcher.fetch(url, Deadline.after(UNHURRIED))


def refusal(fetcher: Fetcher, url: str) -> GatewayError:
    """The error that a URL ends in; it ends in one long before the given deadline."""
    started = time.monotonic()
    try:
        got = fetcher.fetch(url, Deadline.after(UNHURRIED))
    except GatewayError as error:
        assert time.monotonic() - started < UNHURRIED / 3
        return error
    raise AssertionError(f"{url} gave {len(got)} bytes")
