"""From a host name to all of its addresses, by a resolver of our own.

The system's resolver cannot be cut short, reads the hosts file, tries search domains, and takes
127.1 and 0x7f000001 for addresses. This one asks the name servers of /etc/resolv.conf for the name
as it stands, within a time, and gives back every address, or none.
"""

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from ipaddress import ip_address

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from gateway.scoring.fetch.addresses import Address
from gateway.scoring.fetch.waiting import Patience, TimeUp

LOOKUP_TIMEOUT = 3.0
"""Seconds for all questions about one name."""
MAX_KEPT_SECONDS = 60.0
MAX_KEPT_NAMES = 1024
MAX_LOOKUPS = 64
"""Questions asked at the same time; the rest wait their turn within their time."""


class NameUnknown(Exception):
    """The name has no addresses, or no name server said so in time; the text is for the log."""


@dataclass(frozen=True)
class NameServers:
    """Who is asked, as addresses and ports: the system's own name servers unless told otherwise."""

    servers: tuple[tuple[str, int], ...] = ()

    def resolver(self) -> dns.resolver.Resolver:
        """A resolver that asks them; the system's are read anew, as a laptop's change."""
        if not self.servers:
            return dns.resolver.Resolver()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self.servers]
        return resolver


@dataclass(frozen=True)
class Answer:
    """The addresses of one kind, and the moment (monotonic) until which they hold."""

    addresses: tuple[Address, ...]
    until: float


class Resolver:
    """Looks names up, and keeps what it found for as long as the answer allows, a minute at most.

    Its threads start with the first question, so it may be made before a process forks.
    """

    def __init__(
        self, name_servers: NameServers = NameServers(), timeout: float = LOOKUP_TIMEOUT
    ) -> None:
        self._name_servers = name_servers
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="resolve")
        self._kept: OrderedDict[str, Answer] = OrderedDict()
        self._lock = threading.Lock()

    def lookup(self, name: str, patience: Patience) -> tuple[Address, ...]:
        """Every address of the name, IPv4 first.

        One kind of address (IPv6, say) that no server answers about counts as none: what is dialed
        is judged, whatever else the name may have.

        Raises:
            NameUnknown: there is none, or no answer came in time.
            CallerGone: the caller has hung up.
        """
        kept = self._kept_answer(name)
        if kept:
            return kept
        patience = patience.sooner(self._timeout)
        questions = [
            self._threads.submit(self._ask, name, kind, patience)
            for kind in (dns.rdatatype.A, dns.rdatatype.AAAA)
        ]
        answers, failures = [], []
        for question in questions:
            try:
                answers.append(self._wait(question, patience))
            except NameUnknown as error:
                failures.append(str(error))
        found = [answer for answer in answers if answer.addresses]
        if not found:
            # Both kinds of address mostly fail for one reason: said once.
            raise NameUnknown("; ".join(dict.fromkeys([f"{name} has no address", *failures])))
        addresses = tuple(address for answer in found for address in answer.addresses)
        self._keep(name, Answer(addresses, min(answer.until for answer in found)))
        return addresses

    def close(self) -> None:
        """Stop the threads once their questions have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, name: str, kind: dns.rdatatype.RdataType, patience: Patience) -> Answer:
        """The addresses of one kind; none if the name exists without any."""
        resolver = self._name_servers.resolver()
        resolver.timeout = self._timeout / 2
        answer = resolver.resolve(
            dns.name.from_text(name),
            kind,
            search=False,
            raise_on_no_answer=False,
            lifetime=patience.check(),
        )
        addresses = tuple(ip_address(record.address) for record in answer.rrset or ())
        return Answer(addresses, time.monotonic() + answer.expiration - time.time())

    def _wait(self, question: "Future[Answer]", patience: Patience) -> Answer:
        try:
            while not question.done():
                wait([question], patience.check())
            return question.result()
        except TimeUp as error:
            raise NameUnknown("no answer in time") from error
        except (dns.exception.DNSException, OSError) as error:
            raise NameUnknown(f"{type(error).__name__}: {error}") from error

    def _kept_answer(self, name: str) -> tuple[Address, ...]:
        with self._lock:
            answer = self._kept.get(name)
            if answer is None or answer.until <= time.monotonic():
                return ()
            self._kept.move_to_end(name)
            return answer.addresses

    def _keep(self, name: str, answer: Answer) -> None:
        until = min(answer.until, time.monotonic() + MAX_KEPT_SECONDS)
        with self._lock:
            self._kept[name] = Answer(answer.addresses, until)
            self._kept.move_to_end(name)
            while len(self._kept) > MAX_KEPT_NAMES:
                self._kept.popitem(last=False)
