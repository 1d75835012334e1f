"""Which addresses pictures may come from: our own table.

`ipaddress.is_global` is no guard: depending on Python's version it calls multicast, site-local and
many IPv6 forms of 127.0.0.1 global. So this table says what is allowed: IPv4 without the special
ranges, and 2000::/3 without its special ranges and without every form that embeds an IPv4 address,
be that address public or not. Everything else is refused.

Sources: IANA's IPv4 and IPv6 special-purpose address registries and IPv6 address space registry.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.settings import AllowedNetwork, Secret

Address = IPv4Address | IPv6Address

IPV4_REFUSED = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 reaches the machine itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers; a cloud's metadata too
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's own host, though the address is public
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata too
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
)
IPV6_GLOBAL = IPv6Network("2000::/3")
IPV6_REFUSED = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)
ISATAP_INTERFACES = (0x00005EFE, 0x02005EFE)
"""The third quarter of an ISATAP address, whose last quarter is an IPv4 address (RFC 5214)."""


def is_public(address: Address) -> bool:
    """Whether the address is that of a host on the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in IPV4_REFUSED)
    if address not in IPV6_GLOBAL or any(address in network for network in IPV6_REFUSED):
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in ISATAP_INTERFACES


def neighborhood(address: Address) -> IPv4Network | IPv6Network:
    """The addresses that one host has for itself: one of IPv4, a /64 of IPv6."""
    if isinstance(address, IPv4Address):
        return IPv4Network(address)
    return IPv6Network((address, 64), strict=False)


@dataclass(frozen=True)
class FetchPolicy:
    """What the settings say about where pictures may come from."""

    ports: frozenset[int]
    networks: tuple[AllowedNetwork, ...] = ()
    hosts: tuple[str, ...] = ()
    keys: tuple[Secret, ...] = ()

    def admits_port(self, port: int) -> bool:
        """Whether any address may be fetched from at this port."""
        return port in self.ports or any(entry.port == port for entry in self.networks)

    def admits_host(self, host: str) -> bool:
        """Whether pictures may come from this name, or from this address as text."""
        return not self.hosts or any(
            host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
            for pattern in self.hosts
        )

    def admits_short_names(self) -> bool:
        """Whether names without a dot are looked up; they are never those of public hosts."""
        return bool(self.networks)

    def admits(self, address: Address, port: int) -> bool:
        """Whether pictures may come from this address and port."""
        if is_public(address) and port in self.ports:
            return True
        return any(self._entry_admits(entry, address, port) for entry in self.networks)

    def _entry_admits(self, entry: AllowedNetwork, address: Address, port: int) -> bool:
        if address.version != entry.network.version or address not in entry.network:
            return False
        return port in self.ports if entry.port is None else port == entry.port
