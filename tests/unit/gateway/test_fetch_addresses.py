"""The table of addresses, judged without a connection: both sides of every boundary.

The ranges are those of IANA's special-purpose registries and of hostile-input lists of systems that
fetch what strangers name; none is taken from the product's own constants.
"""

import ipaddress

import pytest

from gateway.scoring.fetch.addresses import FetchPolicy, is_public, neighborhood
from gateway.settings import networks

REFUSED_RANGES = {
    "this network": ("0.0.0.0", "0.255.255.255"),
    "private 10": ("10.0.0.0", "10.255.255.255"),
    "carriers": ("100.64.0.0", "100.127.255.255"),
    "loopback": ("127.0.0.0", "127.255.255.255"),
    "a cloud's host": ("168.63.129.16", "168.63.129.16"),
    "link-local": ("169.254.0.0", "169.254.255.255"),
    "private 172": ("172.16.0.0", "172.31.255.255"),
    "protocol assignments": ("192.0.0.0", "192.0.0.255"),
    "documentation 1": ("192.0.2.0", "192.0.2.255"),
    "AS112": ("192.31.196.0", "192.31.196.255"),
    "AMT": ("192.52.193.0", "192.52.193.255"),
    "6to4 relays": ("192.88.99.0", "192.88.99.255"),
    "private 192": ("192.168.0.0", "192.168.255.255"),
    "AS112 delegation": ("192.175.48.0", "192.175.48.255"),
    "benchmarks": ("198.18.0.0", "198.19.255.255"),
    "documentation 2": ("198.51.100.0", "198.51.100.255"),
    "documentation 3": ("203.0.113.0", "203.0.113.255"),
    "multicast, reserved and broadcast": ("224.0.0.0", "255.255.255.255"),
    "all of IPv6 below 2000::": ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "IPv6 protocol assignments": ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "IPv6 documentation": ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    "6to4": ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "IPv6 AS112": ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
    "6bone": ("3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "IPv6 documentation, new": ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "all of IPv6 above 3fff::": ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
}
ALLOWED_NEIGHBORS = [
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.1.255",
    "192.0.3.0",
    "192.31.195.255",
    "192.31.197.0",
    "192.52.192.255",
    "192.52.194.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "192.175.47.255",
    "192.175.49.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "8.8.8.8",
    "2000::",
    "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:200::",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db9::",
    "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2003::",
    "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff",
    "2620:4f:8001::",
    "3ffd:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff:1000::",
    "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2606:4700:4700::1111",
]
EMBEDDING_IPV4 = [
    "::127.0.0.1",
    "::10.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::808:808",
    "64:ff9b:1::7f00:1",
    "64:ff9c::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001::1",
    "2600::5efe:7f00:1",
    "2600::200:5efe:7f00:1",
    "2600:1:2:3:0:5efe:808:808",
]
NAMED_IN_LISTS = [
    "127.0.0.1",
    "0.0.0.0",
    "169.254.169.254",
    "100.100.100.200",
    "192.0.0.192",
    "255.255.255.255",
    "::",
    "::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
    "100::1",
    "5f00::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "3fff::1",
]


@pytest.mark.parametrize("bounds", REFUSED_RANGES.values(), ids=REFUSED_RANGES)
def test_both_ends_of_a_special_range_are_refused(bounds: tuple[str, str]) -> None:
    assert [is_public(ipaddress.ip_address(bound)) for bound in bounds] == [False, False]


@pytest.mark.parametrize("address", ALLOWED_NEIGHBORS)
def test_the_neighbors_of_special_ranges_are_allowed(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_the_neighbors_listed_are_all_there_are() -> None:
    """Each range's first less one and last plus one is in another range, or in the list."""
    ranges = [
        (int(ipaddress.ip_address(low)), int(ipaddress.ip_address(high)), ":" in low)
        for low, high in REFUSED_RANGES.values()
    ]
    listed = {(int(ipaddress.ip_address(each)), ":" in each) for each in ALLOWED_NEIGHBORS}
    for low, high, sixth in ranges:
        for neighbor in (low - 1, high + 1):
            outside = neighbor < 0 or neighbor >= 2 ** (128 if sixth else 32)
            special = any(
                first <= neighbor <= last for first, last, other in ranges if other == sixth
            )
            assert outside or special or (neighbor, sixth) in listed


@pytest.mark.parametrize("address", EMBEDDING_IPV4)
def test_every_form_that_embeds_an_ipv4_address_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NAMED_IN_LISTS)
def test_addresses_that_attackers_name_are_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def admits(allowed: str, address: str, port: int) -> bool:
    policy = FetchPolicy(frozenset({80, 443}), networks(allowed))
    return policy.admits(ipaddress.ip_address(address), port)


def test_public_addresses_are_admitted_at_allowed_ports_only() -> None:
    assert admits("", "93.184.215.14", 443)
    assert not admits("", "93.184.215.14", 8080)


def test_nothing_private_is_admitted_without_a_setting() -> None:
    assert not admits("", "10.0.0.5", 80)
    assert not admits("", "127.0.0.1", 80)


def test_a_network_without_a_port_is_admitted_at_the_allowed_ports() -> None:
    assert admits("10.0.0.0/24", "10.0.0.5", 80)
    assert not admits("10.0.0.0/24", "10.0.0.5", 9000)
    assert not admits("10.0.0.0/24", "10.0.1.5", 80)


def test_a_network_with_a_port_is_admitted_at_that_port_alone() -> None:
    assert admits("10.0.0.0/24:9000", "10.0.0.5", 9000)
    assert not admits("10.0.0.0/24:9000", "10.0.0.5", 80)
    assert not admits("10.0.0.0/24:9000", "93.184.215.14", 9000)


def test_an_ipv6_network_is_admitted_with_its_port() -> None:
    assert admits("[fd00::/8]:9000", "fd00::5", 9000)
    assert not admits("[fd00::/8]:9000", "fe80::5", 9000)


def test_an_ipv4_network_does_not_admit_ipv6_forms_of_its_addresses() -> None:
    assert not admits("127.0.0.0/8", "::ffff:127.0.0.1", 80)
    assert not admits("127.0.0.0/8", "::1", 80)


def test_a_host_counts_by_its_ipv4_address_or_its_ipv6_64() -> None:
    first, second = ipaddress.ip_address("2600::1"), ipaddress.ip_address("2600::ffff:2")
    assert neighborhood(first) == neighborhood(second)
    assert neighborhood(first) != neighborhood(ipaddress.ip_address("2600:0:0:1::1"))
    assert neighborhood(ipaddress.ip_address("8.8.8.8")) != neighborhood(
        ipaddress.ip_address("8.8.8.9")
    )


@pytest.mark.parametrize(
    ("host", "admitted"),
    [
        ("pictures.example", True),
        ("a.cdn.example", True),
        ("a.b.cdn.example", True),
        ("203.0.113.7", True),
        ("cdn.example", False),
        ("acdn.example", False),
        ("pictures.example.evil.example", False),
        ("www.pictures.example", False),
        ("203.0.113.8", False),
    ],
)
def test_only_the_hosts_named_are_admitted_once_any_is(host: str, admitted: bool) -> None:
    hosts = ("pictures.example", "*.cdn.example", "203.0.113.7")
    assert FetchPolicy(frozenset({80}), hosts=hosts).admits_host(host) is admitted
    assert FetchPolicy(frozenset({80})).admits_host(host)
