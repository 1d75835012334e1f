"""Whom a request is from: sockets, proxies, and what strangers write into X-Forwarded-For."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callers import MOST_HOPS, Caller, Network, find_caller, limited_as, parse_address

PROXIES: tuple[Network, ...] = (
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_network("fd00::/8"),
)
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        pytest.param("192.0.2.1", ["198.51.100.1"], "192.0.2.1", id="the peer is no proxy"),
        pytest.param(PROXY, [], PROXY, id="nothing is said"),
        pytest.param(PROXY, ["198.51.100.1"], "198.51.100.1", id="one hop"),
        pytest.param(PROXY, ["1.1.1.1, 198.51.100.1"], "198.51.100.1", id="an invented one"),
        pytest.param(PROXY, ["198.51.100.1, 10.0.0.2"], "198.51.100.1", id="two proxies"),
        pytest.param(PROXY, ["198.51.100.1", "10.0.0.2"], "198.51.100.1", id="two fields"),
        pytest.param(PROXY, ["1.1.1.1, 198.51.100.1", "10.0.0.2"], "198.51.100.1", id="three"),
        pytest.param(PROXY, ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="proxies alone"),
        pytest.param(PROXY, ["\t198.51.100.1 ,\t10.0.0.2 "], "198.51.100.1", id="white space"),
        pytest.param(PROXY, ["2001:DB8:0::1"], "2001:db8::1", id="IPv6"),
        pytest.param("fd00::1", ["2001:db8::1"], "2001:db8::1", id="an IPv6 proxy"),
        pytest.param("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1", id="a mapped proxy"),
        pytest.param(PROXY, ["::ffff:198.51.100.1"], "198.51.100.1", id="a mapped hop"),
        pytest.param(PROXY, ["198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1", id="mapped proxy"),
        pytest.param(PROXY, ["unknown"], PROXY, id="no address"),
        pytest.param(PROXY, ["198.51.100.1, unknown"], PROXY, id="no address at the end"),
        pytest.param(PROXY, ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2", id="in the middle"),
        pytest.param(PROXY, ["198.51.100.1,"], PROXY, id="an empty one at the end"),
        pytest.param(PROXY, [""], PROXY, id="an empty field"),
        pytest.param(PROXY, ["198.51.100.1", ""], PROXY, id="an empty field behind another"),
        pytest.param(PROXY, ["198.51.100.1:80"], PROXY, id="a port"),
        pytest.param(PROXY, ["[2001:db8::1]"], PROXY, id="brackets"),
        pytest.param(PROXY, ["fe80::1%eth0"], PROXY, id="a zone"),
        pytest.param(PROXY, ["198.51.100.01"], PROXY, id="an octal number"),
        pytest.param(PROXY, ["198.51.25601"], PROXY, id="a short form"),
        pytest.param(PROXY, ["3325256705"], PROXY, id="one number"),
        pytest.param(PROXY, ["198.51.100.1/32"], PROXY, id="a network"),
        pytest.param(PROXY, ["\xb9.1.1.1"], PROXY, id="a digit that is not of ASCII"),
        pytest.param(PROXY, ["198.51.100.1\x00"], PROXY, id="a control character"),
        pytest.param("fe80::1%eth0", [], "fe80::1", id="a peer with a zone"),
        pytest.param("", ["198.51.100.1"], "", id="no peer"),
    ],
)
def test_the_caller_is_the_rightmost_hop_that_is_no_proxy(
    peer: str, forwarded: list[str], address: str
) -> None:
    assert find_caller(peer, forwarded, PROXIES).address == address


def test_without_proxies_nothing_that_is_forwarded_counts() -> None:
    assert find_caller(PROXY, ["198.51.100.1"], ()) == Caller(PROXY)


def test_the_proxy_is_known_beside_the_caller() -> None:
    found = find_caller(PROXY, ["198.51.100.1, 10.0.0.2"], PROXIES)
    assert found == Caller("198.51.100.1", proxy=PROXY)
    assert find_caller(PROXY, [], PROXIES) == Caller(PROXY)


def test_only_so_many_hops_are_looked_at() -> None:
    hops = ["198.51.100.1", *["10.0.0.2"] * (MOST_HOPS - 1)]
    assert find_caller(PROXY, [",".join(hops)], PROXIES).address == "198.51.100.1"
    assert find_caller(PROXY, [",".join([*hops, "10.0.0.2"])], PROXIES).address == "10.0.0.2"


TEXTS = st.text(st.characters(max_codepoint=255), max_size=60) | st.text(
    "0123456789abcdef.:, \t[]%", max_size=60
)
ADDRESSES = st.ip_addresses().filter(lambda each: parse_address(str(each)) == each)
STRANGERS = ADDRESSES.filter(lambda each: not any(each in network for network in PROXIES))


@given(st.lists(TEXTS, max_size=5))
def test_whatever_is_forwarded_the_caller_is_the_peer_or_an_address(forwarded: list[str]) -> None:
    found = find_caller(PROXY, forwarded, PROXIES).address
    assert str(ipaddress.ip_address(found)) == found


@given(STRANGERS, st.lists(TEXTS, max_size=5))
def test_a_stranger_on_the_socket_is_believed_nothing(
    stranger: ipaddress.IPv4Address, forwarded: list[str]
) -> None:
    assert find_caller(str(stranger), forwarded, PROXIES) == Caller(str(stranger))


@given(STRANGERS, st.lists(TEXTS, max_size=5), st.sampled_from([[], ["10.9.8.7"], ["fd00::9"]]))
def test_what_a_stranger_sent_changes_nothing_of_what_proxies_wrote_behind_it(
    stranger: ipaddress.IPv4Address, invented: list[str], more: list[str]
) -> None:
    forwarded = [*invented, ", ".join([str(stranger), *more])]
    assert find_caller(PROXY, forwarded, PROXIES).address == str(stranger)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("", ""),
    ],
)
def test_of_ipv6_the_network_of_64_bits_is_counted(address: str, counted: str) -> None:
    assert limited_as(address) == counted
