"""Names: looked up by a resolver of ours, all addresses judged, the judged one dialed."""

import threading
import time
from dataclasses import replace

import dns.rcode
import pytest

from gateway.deadline import Deadline
from gateway.errors import CallerGone, URLNotAllowed
from gateway.scoring.fetch import Fetcher
from gateway.scoring.fetch.resolve import NameServers, NameUnknown, Resolver
from gateway.scoring.fetch.waiting import Patience
from gateway.settings import Settings
from tests.support.cases import rows
from tests.support.fetching import UNHURRIED, fetch, fetching, refusal
from tests.support.hostile_origin import PICTURE, HostileOrigin, answer, redirect, response
from tests.support.zone_server import Reply, ZoneServer, addresses

NAME = "pictures.test"
BOTH = frozenset({"A", "AAAA"})


def test_a_name_is_looked_up_dialed_and_named_in_the_host_header() -> None:
    with (
        ZoneServer({NAME: [addresses("127.0.0.1")]}) as names,
        HostileOrigin(answer(response())) as origin,
        fetching(origin, names=names) as fetcher,
    ):
        assert fetch(fetcher, f"http://{NAME}:{origin.port}/a.jpg") == PICTURE
    assert f"Host: {NAME}:{origin.port}".encode() in origin.requests[0]
    assert names.questions == {(NAME, "A"): 1, (NAME, "AAAA"): 1}


def test_a_single_label_name_is_looked_up_as_it_stands() -> None:
    """As those of compose and Kubernetes are; no search domain is tried."""
    with (
        ZoneServer({"pictures": [addresses("127.0.0.1")]}) as names,
        HostileOrigin(answer(response())) as origin,
        fetching(origin, names=names) as fetcher,
    ):
        assert fetch(fetcher, f"http://pictures:{origin.port}/a.jpg") == PICTURE
    assert set(names.questions) == {("pictures", "A"), ("pictures", "AAAA")}


REFUSED = {
    "A33 another address": addresses("127.0.0.2"),
    "A34 one good and one bad": addresses("127.0.0.1", "127.0.0.2"),
    "A34 one good and metadata": addresses("127.0.0.1", "169.254.169.254"),
    "A34 good IPv4 and bad IPv6": addresses("127.0.0.1", "::1"),
    "A34 good IPv4 and mapped IPv6": addresses("127.0.0.1", "::ffff:127.0.0.1"),
    "A34 good IPv4 and NAT64": addresses("127.0.0.1", "64:ff9b::7f00:1"),
    "A34 alias of an inner name": Reply(("10.0.0.1",), aliases=("inner.test",)),
    "A34 no addresses": addresses(),
    "A34 alias of nothing": Reply(aliases=("nothing.test",)),
    "A34 alias of itself": Reply(aliases=(NAME,)),
    "A34 unknown": Reply(rcode=dns.rcode.NXDOMAIN),
    "A34 server failure": Reply(rcode=dns.rcode.SERVFAIL),
    "A34 refused": Reply(rcode=dns.rcode.REFUSED),
    "A34 no answer": Reply(silent_about=BOTH),
    "A34 500 addresses, one bad": addresses(
        *(f"8.8.{number // 250}.{number % 250 + 1}" for number in range(499)), "10.0.0.1"
    ),
}


@pytest.mark.parametrize("reply", rows(REFUSED))
def test_a_name_with_a_bad_address_or_none_is_refused_in_one_text(reply: Reply) -> None:
    with (
        ZoneServer({NAME: [reply]}) as names,
        HostileOrigin(answer(response())) as origin,
        fetching(origin, names=names) as fetcher,
    ):
        error = refusal(fetcher, f"http://{NAME}:{origin.port}/")
        blocked = refusal(fetcher, "http://10.0.0.1/")
        assert (type(error), error.message) == (URLNotAllowed, blocked.message)
        assert error.log_detail
        assert error.log_detail != blocked.log_detail
    assert origin.connections == 0


@pytest.mark.case("A33")
def test_the_judged_address_is_dialed_and_a_rebound_one_never() -> None:
    """The name moves to an inner host after its first lookup, with no time to live."""
    with (
        ZoneServer({NAME: [addresses("127.0.0.1"), addresses("127.0.0.2")]}) as names,
        HostileOrigin(answer(response())) as origin,
        HostileOrigin(answer(response()), address="127.0.0.2", port=origin.port) as canary,
        fetching(origin, names=names) as fetcher,
    ):
        url = f"http://{NAME}:{origin.port}/"
        assert fetch(fetcher, url) == PICTURE
        assert names.questions[NAME, "A"] == 1
        assert isinstance(refusal(fetcher, url), URLNotAllowed)
        assert (origin.connections, canary.connections) == (1, 0)


def test_a_kept_connection_is_not_used_for_another_name_at_its_address() -> None:
    with (
        ZoneServer({NAME: [addresses("127.0.0.1")], "b.test": [addresses("127.0.0.1")]}) as names,
        HostileOrigin(answer(response())) as origin,
        fetching(origin, names=names) as fetcher,
    ):
        for name in (NAME, "b.test", NAME, "b.test"):
            assert fetch(fetcher, f"http://{name}:{origin.port}/") == PICTURE
    assert origin.connections == 2


def test_an_address_that_refuses_gives_way_to_the_next() -> None:
    """127.0.0.2 is allowed here, and nobody listens there."""
    with (
        ZoneServer({NAME: [addresses("127.0.0.2", "127.0.0.1")]}) as names,
        HostileOrigin(answer(response())) as origin,
        fetching(names=names, ALLOWED_NETWORKS=f"127.0.0.0/8:{origin.port}") as fetcher,
    ):
        assert fetch(fetcher, f"http://{NAME}:{origin.port}/") == PICTURE


@pytest.mark.case("A34")
def test_500_good_addresses_come_over_tcp_and_are_judged() -> None:
    loopback = [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(500)]
    with (
        ZoneServer({NAME: [addresses(*loopback)]}) as names,
        HostileOrigin(answer(response()), address="0.0.0.0") as origin,
        fetching(names=names, ALLOWED_NETWORKS=f"127.0.0.0/8:{origin.port}") as fetcher,
    ):
        assert fetch(fetcher, f"http://{NAME}:{origin.port}/") == PICTURE


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "http://nobody.test/",
        "http://127.0.0.1:{closed}/",
        "http://silent.test/",
    ],
)
def test_all_that_cannot_be_reached_reads_the_same_and_no_sooner_than_the_floor(url: str) -> None:
    """Refused by address, unknown, refusing and silent: told apart in the log alone."""
    with HostileOrigin(answer(response())) as closed:
        pass
    with (
        ZoneServer({"silent.test": [Reply(silent_about=BOTH)]}) as names,
        fetching(closed, names=names) as fetcher,
    ):
        started = time.monotonic()
        error = refusal(fetcher, url.format(closed=closed.port))
        elapsed = time.monotonic() - started
    assert type(error) is URLNotAllowed
    assert error.message == (
        "The URL's host may not be fetched from or cannot be reached; "
        "name a picture on a host of the public internet."
    )
    assert elapsed >= 0.05


def test_the_hosts_file_is_not_read() -> None:
    """`localhost` is known without it; its other names are not."""
    with (
        ZoneServer({}) as names,
        HostileOrigin(answer(response())) as origin,
        fetching(origin, names=names) as fetcher,
    ):
        assert fetch(fetcher, f"http://localhost:{origin.port}/") == PICTURE
        assert not names.questions
        for name in ("localhost.localdomain", "ip6-localhost"):
            error = refusal(fetcher, f"http://{name}:{origin.port}/")
            assert isinstance(error, URLNotAllowed)


def test_a_machine_without_name_servers_refuses_in_time() -> None:
    """Nobody listens at the name server's port."""
    with ZoneServer({}) as closed:
        pass
    resolver = Resolver(NameServers((("127.0.0.1", closed.port),)), timeout=1)
    fetcher = Fetcher(Settings.from_environment({}), resolver)
    assert isinstance(refusal(fetcher, "http://example.com/"), URLNotAllowed)


def lookup(resolver: Resolver, name: str = NAME) -> list[str]:
    found = resolver.lookup(name, Patience(Deadline.after(UNHURRIED)))
    return [str(address) for address in found]


def resolver_of(names: ZoneServer) -> Resolver:
    return Resolver(NameServers((("127.0.0.1", names.port),)), timeout=1)


def test_both_kinds_of_address_come_ipv4_first_through_aliases() -> None:
    reply = Reply(("2600::1", "8.8.8.8", "8.8.4.4"), aliases=("b.test", "c.test"))
    with ZoneServer({NAME: [reply]}) as names:
        found = lookup(resolver_of(names))
    assert set(found) == {"8.8.8.8", "8.8.4.4", "2600::1"}
    assert found[-1] == "2600::1"


@pytest.mark.parametrize(("ttl", "questions"), [(300, 1), (0, 3)])
def test_an_answer_is_kept_for_its_time_to_live(ttl: int, questions: int) -> None:
    with ZoneServer({NAME: [addresses("8.8.8.8", ttl=ttl)]}) as names:
        resolver = resolver_of(names)
        for _ in range(3):
            assert lookup(resolver) == ["8.8.8.8"]
    assert names.questions[NAME, "A"] == questions


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (
            Reply(rcode=dns.rcode.NXDOMAIN),
            f"{NAME} has no address; NXDOMAIN: The DNS query name does not exist: {NAME}.",
        ),
        (addresses(), f"{NAME} has no address"),
    ],
)
def test_why_a_name_has_no_address_is_said_once(reply: Reply, text: str) -> None:
    with ZoneServer({NAME: [reply]}) as names, pytest.raises(NameUnknown) as caught:
        lookup(resolver_of(names))
    assert str(caught.value) == text


def test_unknown_names_are_not_kept() -> None:
    with ZoneServer({NAME: [Reply(rcode=dns.rcode.NXDOMAIN), addresses("8.8.8.8")]}) as names:
        resolver = resolver_of(names)
        with pytest.raises(NameUnknown, match="NXDOMAIN"):
            lookup(resolver)
        assert lookup(resolver) == ["8.8.8.8"]


@pytest.mark.parametrize(
    "reply",
    [
        addresses("8.8.8.8"),
        replace(addresses("8.8.8.8"), silent_about=frozenset({"AAAA"})),
        replace(addresses("2600::1"), silent_about=frozenset({"A"})),
    ],
)
def test_one_kind_of_address_is_enough(reply: Reply) -> None:
    with ZoneServer({NAME: [reply]}) as names:
        assert lookup(resolver_of(names)) == list(reply.addresses)


def test_names_are_not_sought_in_search_domains() -> None:
    with ZoneServer({}) as names, pytest.raises(NameUnknown):
        lookup(resolver_of(names), "example")
    assert {name for name, _ in names.questions} == {"example"}


def test_a_caller_that_hangs_up_ends_its_lookup() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with ZoneServer({NAME: [Reply(silent_about=BOTH)]}) as names, pytest.raises(CallerGone):
        resolver_of(names).lookup(NAME, Patience(Deadline.after(UNHURRIED), cancelled))


def test_a_host_that_the_settings_do_not_name_is_refused_before_its_name_is_looked_up() -> None:
    """With PICTURE_HOSTS; a redirect there as well."""
    with (
        ZoneServer({NAME: [addresses("127.0.0.1")]}) as names,
        HostileOrigin(answer(response())) as origin,
        HostileOrigin(answer(redirect(f"http://b.test:{origin.port}/"))) as leading,
        fetching(origin, leading, names=names, PICTURE_HOSTS=f"{NAME},*.cdn.test") as fetcher,
    ):
        assert fetch(fetcher, f"http://{NAME}:{origin.port}/") == PICTURE
        blocked = refusal(fetcher, f"http://127.0.0.1:{origin.port}/")
        astray = refusal(fetcher, f"http://{NAME}:{leading.port}/")
    assert isinstance(astray, URLNotAllowed)
    assert astray.message == blocked.message
    assert "b.test" in astray.log_detail
    assert origin.connections == 1
    assert {name for name, _ in names.questions} == {NAME}


def test_name_servers_of_the_settings_are_asked() -> None:
    with (
        ZoneServer({NAME: [addresses("127.0.0.1")]}) as names,
        HostileOrigin(answer(response())) as origin,
    ):
        environment = {
            "NAME_SERVERS": f"127.0.0.1:{names.port}",
            "ALLOWED_NETWORKS": f"127.0.0.1/32:{origin.port}",
        }
        fetcher = Fetcher(Settings.from_environment(environment))
        assert fetch(fetcher, f"http://{NAME}:{origin.port}/") == PICTURE
        fetcher.close()
