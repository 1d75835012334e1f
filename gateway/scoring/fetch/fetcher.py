"""From a URL to a picture's bytes: parse, resolve, judge, dial what was judged, read within limits.

What callers hear before a connection stands is one sentence, none sooner than a common floor of
time, so that nobody maps a network by asking; which of the reasons it was is in the log.
"""

import ssl
import time
from ipaddress import IPv4Address

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import DeadlineExceeded, InvalidURL, OriginTimeout, URLNotAllowed
from gateway.scoring.fetch.addresses import Address, FetchPolicy
from gateway.scoring.fetch.connection import Unreachable, connect
from gateway.scoring.fetch.egress import EgressProxy
from gateway.scoring.fetch.resolve import NameServers, NameUnknown, Resolver
from gateway.scoring.fetch.transport import Dial, Picture, Redirect, Transport
from gateway.scoring.fetch.url import PictureURL, join, parse
from gateway.scoring.fetch.waiting import Allowance, Memory, Patience, Places, TimeUp
from gateway.settings import Settings

MAX_REDIRECTS = 3
FLOOR_SECONDS = 0.05
STUCK_SHARE = 0.25
"""Of the time of a fetch: a host of which no fetch begins or ends for that long is stuck."""
NOT_ALLOWED = (
    "The URL's host may not be fetched from or cannot be reached; "
    "name a picture on a host of the public internet."
)


class NotAdmitted(Exception):
    """An address is not one that pictures may come from; the text is for the log."""


class Fetcher:
    """Fetches pictures; one for each worker, used by all of its threads.

    Args:
        settings: limits, time-outs, and what is allowed beside the public internet.
        resolver: finds the addresses of names.
        tls: how hosts prove who they are; the system's trusted certificates unless told otherwise.
    """

    def __init__(
        self,
        settings: Settings,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._places = places(settings)
        self._policy = FetchPolicy(
            settings.allowed_ports,
            settings.allowed_networks,
            settings.picture_hosts,
            settings.url_keys_file,
        )
        self._timeout = settings.fetch_timeout
        self._max_bytes = settings.max_image_bytes
        self._memory = Memory(settings.fetch_memory)
        self._resolver = resolver or Resolver(NameServers(settings.name_servers))
        self._transport = Transport(
            self._places,
            tls or ssl.create_default_context(),
            settings.loop_token,
            dialer(settings),
        )

    def fetch(self, url: str, deadline: Deadline, cancelled: Cancellation | None = None) -> bytes:
        """The bytes that the URL names, after at most three redirects.

        Args:
            url: as the caller wrote it.
            deadline: the request's own; the fetch has its own time within it.
            cancelled: the request's own; set when the caller hangs up, the fetch ends within 0.2 s.
                The picture's memory is held until the request says that it is done with.

        Raises:
            InvalidURL: it breaks a rule of syntax.
            URLNotAllowed: it must be signed and is not, or its host may not be fetched from, or
                cannot be reached.
            EgressUnavailable: the settings name a proxy, and it fails.
            OriginFailed: its host answers something other than a picture, or breaks HTTP or TLS.
            OriginTimeout: its host is too slow.
            ImageTooLarge: there are more bytes than the settings allow.
            Overloaded: too many fetches from its host run and none ended in time, or there is no
                memory for the picture.
            DeadlineExceeded: the request's own time ran out once a host was connected to.
            CallerGone: the caller hung up.
        """
        parsed = parse(url, self._policy)
        patience = Patience(deadline.sooner(self._timeout), cancelled)
        request = cancelled or Cancellation()
        allowance = Allowance(request, self._max_bytes, self._memory)
        request.at_end(allowance.let_go)
        try:
            return self._follow(parsed, allowance, patience)
        except TimeUp as error:
            if deadline.expired():
                message = "The time for this request ran out while its picture was fetched."
                raise DeadlineExceeded(message) from error
            raise OriginTimeout(
                f"The picture's host did not deliver within {self._timeout:g} seconds."
            ) from error
        except (NotAdmitted, NameUnknown, Unreachable) as error:
            raise URLNotAllowed(NOT_ALLOWED, log_detail=str(error)) from error
        finally:
            if cancelled is None:
                request.end()

    def close(self) -> None:
        """Close what is kept open."""
        self._transport.close()
        self._resolver.close()

    def _follow(self, url: PictureURL, allowance: Allowance, patience: Patience) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._answer(url, allowance, patience)
            if isinstance(answer, Picture):
                return answer.data
            url = self._next(url, answer.location)
        raise URLNotAllowed(f"The picture's host redirects more than {MAX_REDIRECTS} times.")

    def _answer(
        self, url: PictureURL, allowance: Allowance, patience: Patience
    ) -> Picture | Redirect:
        """What the URL's host says; that it cannot be asked is known no sooner than the floor."""
        started = time.monotonic()
        try:
            with self._places.hold(url.host, allowance.request, patience):
                return self._transport.get(url, self._judged(url, patience), allowance, patience)
        except (NotAdmitted, NameUnknown, Unreachable):
            patience.pause(started + FLOOR_SECONDS - time.monotonic())
            raise

    def _judged(self, url: PictureURL, patience: Patience) -> tuple[Address, ...]:
        """All addresses of the URL's host, if pictures may come from each of them."""
        if not self._policy.admits_host(url.host):
            raise NotAdmitted(f"{url.host} is none of PICTURE_HOSTS")
        addresses = self._addresses(url, patience)
        for address in addresses:
            if not self._policy.admits(address, url.port):
                raise NotAdmitted(f"{url.host} is {address}, which is not allowed")
        return addresses

    def _addresses(self, url: PictureURL, patience: Patience) -> tuple[Address, ...]:
        if url.address is not None:
            return (url.address,)
        if url.host == "localhost":
            return (IPv4Address("127.0.0.1"),)
        return self._resolver.lookup(url.host, patience)

    def _next(self, url: PictureURL, location: str) -> PictureURL:
        try:
            following = join(url, location, self._policy)
        except (InvalidURL, URLNotAllowed) as error:
            raise URLNotAllowed(
                "The picture's host redirects to a URL that is malformed or not allowed.",
                log_detail=error.message,
            ) from error
        if url.scheme == "https" and following.scheme == "http":
            raise URLNotAllowed("The picture's host redirects from https to http.")
        return following


def places(settings: Settings) -> Places:
    """Of a worker's threads, one host or one address has two thirds: the rest is for the others.

    A request that is fetched for holds one of `threads`, each picture of a list one of
    `fetch_threads` too. There are as many fetches as threads, and no more.
    """
    requests = max(1, settings.threads * 2 // 3)
    fetches = max(requests, settings.fetch_threads * 2 // 3)
    return Places(requests, fetches, settings.fetch_timeout * STUCK_SHARE)


def dialer(settings: Settings) -> Dial:
    """How addresses are connected to: through the egress proxy, if the settings name one."""
    if settings.egress_proxy is None:
        return connect
    host, port = settings.egress_proxy
    return EgressProxy(host, port, settings.egress_proxy_credentials_file, Resolver()).dial
