"""Where TensorFlow Serving answers: the target that gRPC balances over, and each address of it."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from gateway.deadline import Deadline
from gateway.errors import ModelUnavailable

Address = tuple[str, int]
"""A host, name or IP address without brackets, and a port."""

LOOKUP_SECONDS = 2.0
"""So long is an answer about a name waited for where an older one is known."""


def target_uri(addresses: Sequence[Address]) -> str:
    """What gRPC is told to connect to.

    One name is resolved by DNS, again and again; a list is of IP addresses of one family.

    Raises:
        ValueError: gRPC cannot balance over these addresses.
    """
    schemes = {_scheme(host) for host, _ in addresses}
    if len(addresses) == 1 and schemes == {"dns"}:
        return f"dns:///{join_address(addresses[0])}"
    if len(schemes) != 1 or schemes == {"dns"}:
        raise ValueError("several model servers must be given as IP addresses of one family")
    return f"{schemes.pop()}:" + ",".join(map(join_address, addresses))


def _scheme(host: str) -> str:
    try:
        return f"ipv{ipaddress.ip_address(host).version}"
    except ValueError:
        return "dns"


def join_address(address: Address) -> str:
    """host:port, an IPv6 address in square brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def look_up(name: Address) -> tuple[Address, ...]:
    """What the system's resolver says, each address once."""
    found = socket.getaddrinfo(*name, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys((str(place[0]), int(place[1])) for *_, place in found))


class Addresses:
    """The IP addresses behind the target, a name's as they are now.

    Args:
        targets: one name, or IP addresses, each with a port.
        lookup: asks for a name's addresses; nothing can cut it short, so it has its own thread.
        fresh_seconds: for so long is what a name resolved to used again.
    """

    def __init__(
        self,
        targets: Sequence[Address],
        lookup: Callable[[Address], tuple[Address, ...]] = look_up,
        fresh_seconds: float = 1.0,
    ) -> None:
        self._name = targets[0] if _scheme(targets[0][0]) == "dns" else None
        self._known = () if self._name else tuple(targets)
        self._lookup = lookup
        self._fresh_seconds = fresh_seconds
        self._fresh_until = 0.0
        self._running: Future[tuple[Address, ...]] | None = None
        self._lock = threading.Lock()

    def resolve(self, deadline: Deadline) -> tuple[Address, ...]:
        """The addresses; older ones where a name cannot be resolved now.

        Raises:
            ModelUnavailable: the name has not been resolved, ever.
        """
        with self._lock:
            if self._name is None or time.monotonic() < self._fresh_until:
                return self._known
            known = self._known
            running = self._running = self._running or self._start(self._name)
        try:
            return running.result(
                (deadline.sooner(LOOKUP_SECONDS) if known else deadline).remaining()
            )
        except (OSError, UnicodeError, TimeoutError) as error:
            if known:
                return known
            raise ModelUnavailable(
                "TensorFlow Serving's address cannot be found.",
                log_detail=f"{join_address(self._name)}: {error!r}",
                retry_after=1,
            ) from error

    def alone(self) -> bool:
        """Whether there is, and always will be, a single server."""
        return self._name is None and len(self._known) == 1

    def is_spare(self, address: Address) -> bool:
        """Whether a server need not listen there.

        A name such as localhost resolves to this machine's loopback in both families, of which a
        server may use one.
        """
        return self._name is not None and ipaddress.ip_address(address[0]).is_loopback

    def _start(self, name: Address) -> Future[tuple[Address, ...]]:
        running: Future[tuple[Address, ...]] = Future()
        threading.Thread(target=self._run, args=(name, running), daemon=True).start()
        return running

    def _run(self, name: Address, running: Future[tuple[Address, ...]]) -> None:
        try:
            found = self._lookup(name)
        except (OSError, UnicodeError) as error:
            with self._lock:
                self._running = None
            running.set_exception(error)
            return
        with self._lock:
            self._running = None
            self._known = found
            self._fresh_until = time.monotonic() + self._fresh_seconds
        running.set_result(found)
