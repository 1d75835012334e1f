"""Who calls: the address of a connection's other end, or the one that trusted proxies tell.

Of X-Forwarded-For only what our own proxies wrote can be believed. Each writes down, at the right
end, whom it was called by; what stands further left came with the request and may be invented.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_HOPS = 20
"""Entries of X-Forwarded-For that are looked at, from the right."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_IPV6_SHARED = 64
"""Leading bits of an IPv6 address that count: the rest is the caller's own to choose."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request, as far as is known.

    Attributes:
        address: the caller's own.
        proxy: the connection's other end, where that is a trusted proxy and not the caller.
        key: the name of the API key that was shown, empty where none was or none is needed.
    """

    address: str
    proxy: str = ""
    key: str = ""


def find_caller(peer: str, forwarded: Iterable[str], proxies: Sequence[Network]) -> Caller:
    """The rightmost hop that is not a trusted proxy.

    Args:
        peer: the address of the connection's other end.
        forwarded: the values of the request's X-Forwarded-For fields, in their order.
        proxies: the networks of trusted proxies.

    An entry that is not an IP address, or one beyond MOST_HOPS, ends the search: the caller is
    then the last hop that is known, a proxy. Where all hops are proxies it is the first of them.
    """
    hop = parse_address(peer.partition("%")[0])
    if hop is None or not _among(hop, proxies):
        return Caller(peer if hop is None else str(hop))
    found = hop
    for entry in reversed(",".join(forwarded).rsplit(",", MOST_HOPS)[-MOST_HOPS:]):
        parsed = parse_address(entry.strip(" \t"))
        if parsed is None:
            break
        found = parsed
        if not _among(found, proxies):
            break
    return Caller(str(found), "" if found == hop else str(hop))


def parse_address(text: str) -> Address | None:
    """An IP address without port, brackets or zone; IPv4 inside IPv6 is IPv4; None for others."""
    if not _ADDRESS.fullmatch(text):
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def limited_as(address: str) -> str:
    """What an address's limit is counted under: IPv4 itself, of IPv6 the network of 64 bits."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _IPV6_SHARED), strict=False))
    return address if parsed is None else str(parsed)


def _among(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
