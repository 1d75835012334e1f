"""Hostile URLs and hosts against the real process: every row of groups A and B of the list.

After each row the canaries have seen nobody, the same workers run, and a healthy host is served.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import dns.rcode
import pytest

from gateway.errors import GatewayError, ImageTooLarge, OriginTimeout
from tests.support.cases import rows
from tests.support.certificates import NAME, serving
from tests.support.hostile_answers import CASES, STATUSES
from tests.support.hostile_origin import (
    Script,
    Visit,
    after_request,
    answer,
    answer_once,
    redirect,
    response,
)
from tests.support.hostile_tls import (
    BAD_CERTIFICATE,
    NO_TLS,
    SLOW_TLS,
    UNPROVEN,
    Context,
    demanding_a_client_certificate,
)
from tests.support.hostile_world import (
    FETCH_TIMEOUT,
    FLOOR,
    MAX_IMAGE_BYTES,
    PNG,
    REBINDING,
    World,
    hostile_world,
)
from tests.support.waiting import wait_until
from tests.support.zone_server import Reply, addresses

BOTH = frozenset({"A", "AAAA"})
NOT_ALLOWED = (
    "The URL's host may not be fetched from or cannot be reached; "
    "name a picture on a host of the public internet."
)

HOSTILE_NAMES: dict[str, Reply] = {
    "A34 one public and loopback": addresses("93.184.215.14", "127.0.0.1"),
    "A34 an allowed and another loopback": addresses("127.0.0.1", "127.0.0.3"),
    "A34 public IPv4 and ::1": addresses("93.184.215.14", "::1"),
    "A34 an alias of an inner name": Reply(("127.0.0.3",), aliases=("inner.test",)),
    "A34 no records": addresses(),
    "A34 server failure": Reply(rcode=dns.rcode.SERVFAIL),
    "A34 no such name": Reply(rcode=dns.rcode.NXDOMAIN),
    "A34 an alias of itself": Reply(aliases=("a34-7.test",)),
    "A34 silence": Reply(silent_about=BOTH),
    "A34 500 records, one loopback": addresses(
        *(f"8.8.{n // 250}.{n % 250 + 1}" for n in range(499)), "127.0.0.1"
    ),
    "A20 the metadata name": addresses("169.254.169.254"),
}
ZONE: dict[str, Sequence[Reply]] = {
    f"a34-{index}.test": [reply] for index, reply in enumerate(HOSTILE_NAMES.values())
}
NAMES_BY_CASE = dict(zip(HOSTILE_NAMES, ZONE, strict=True))
ZONE |= {
    "metadata.google.internal": [addresses("169.254.169.254")],
    NAME: [addresses("127.0.0.1")],
}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hostile_world(tmp_path_factory.mktemp("world"), ZONE) as world:
        yield world


@pytest.fixture
def world(started: World) -> Iterator[World]:
    yield started
    started.check_unharmed()


def reason(world: World, request_id: str) -> str:
    """What the log has to say of a request beside what its caller was told."""
    found: list[str] = []

    def logged() -> bool:
        lines = [line for line in tuple(world.gateway.process.lines) if request_id in line]
        found.extend(json.loads(line)["detail"] for line in lines if '"detail"' in line)
        return bool(found)

    wait_until(logged, what="the line of the log")
    return found[0]


ADDRESSES = {
    "A1 loopback": "127.0.0.1",
    "A1 another loopback": "127.1.2.3",
    "A7 unspecified": "0.0.0.0",
    "A8 IPv6 loopback": "[::1]",
    "A9 IPv6 unspecified": "[::]",
    "A10 mapped": "[::ffff:127.0.0.1]",
    "A11 mapped in hexadecimal": "[::ffff:7f00:1]",
    "A12 compatible": "[::127.0.0.1]",
    "A13 translated": "[::ffff:0:127.0.0.1]",
    "A14 NAT64": "[64:ff9b::a9fe:a9fe]",
    "A15 NAT64, local": "[64:ff9b:1::7f00:1]",
    "A16 6to4": "[2002:7f00:1::]",
    "A17 Teredo": "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "A18 ISATAP": "[2600::5efe:7f00:1]",
    "A18 ISATAP, universal": "[2600::200:5efe:7f00:1]",
    "A19 site-local": "[fec0::1]",
    "A19 unique local": "[fc00::1]",
    "A19 metadata over IPv6": "[fd00:ec2::254]",
    "A19 link-local": "[fe80::1]",
    "A20 metadata": "169.254.169.254",
    "A20 metadata by name": "metadata.google.internal",
    "A21 carriers": "100.64.0.1",
    "A21 protocol assignments": "192.0.0.1",
    "A21 benchmarks": "198.18.0.1",
    "A21 6to4 relays": "192.88.99.1",
    "A21 reserved": "240.0.0.1",
    "A21 multicast": "224.0.0.1",
    "A21 broadcast": "255.255.255.255",
    "A29 Kubernetes": "kubernetes.default.svc",
    "A29 a headless Service": "tf-serving.models.svc.cluster.local",
    "A29 a single label": "tf-serving",
    "A29 localhost": "localhost",
}


@pytest.mark.parametrize("host", rows(ADDRESSES))
def test_an_address_that_is_not_allowed_is_refused_and_not_dialed(world: World, host: str) -> None:
    """At a port that is allowed, so that the address alone can be the reason."""
    document = world.refuses(f"http://{host}:{{canary}}/", 422, "url-not-allowed")
    assert document["detail"] == NOT_ALLOWED
    assert reason(world, document["request_id"]).endswith("which is not allowed")


MALFORMED = {
    "A2 integer": "http://2130706433:{canary}/",
    "A3 hexadecimal": "http://0x7f000001:{canary}/",
    "A4 hexadecimal, short": "http://0x7f.1:{canary}/",
    "A5 octal": "http://0177.0.0.1:{canary}/",
    "A6 short": "http://127.1:{canary}/",
    "A7 zero": "http://0:{canary}/",
    "A19 zone": "http://[fe80::1%25eth0]:{canary}/",
    "A22 circled digits": "http://①②⑦.⓪.⓪.①:{canary}/",
    "A22 ideographic dots": "http://127。0。0。1:{canary}/",
    "A22 circled letter": "http://ⓛocalhost:{canary}/",
    "A23 percent NUL": "http://127.0.0.1%00.a.com:{canary}/",
    "A23 raw NUL": "http://127.0.0.1\0.a.com:{canary}/",
    "A24 user": "http://good@127.0.0.1:{canary}/",
    "A24 user and password": "http://good:80@127.0.0.1:{canary}/",
    "A25 backslash and at": "http://127.0.0.1:{canary}\\@127.0.0.1:{host}/",
    "A25 at after backslash": "http://127.0.0.1:{host}\\@127.0.0.1:{canary}/",
    "A26 encoded slash": "http://127.0.0.1:{host}%2f@127.0.0.1:{canary}/",
    "A27 CRLF": "http://127.0.0.1:{host}/\r\nHost: inner.test",
    "A27 tab": "http://127.0.0.1:{host}/\tx",
    "A27 space": "http://127.0.0.1:{host}/ HTTP/1.1",
    "A27 control": "\x01http://127.0.0.1:{canary}/",
    "A28 file": "file:///etc/passwd",
    "A28 gopher": "gopher://127.0.0.1:{canary}/_GET",
    "A28 ftp": "ftp://127.0.0.1:{canary}/",
    "A28 dict": "dict://127.0.0.1:{canary}/",
    "A28 data": "data:image/png;base64,AAAA",
    "A28 jar": "jar:http://127.0.0.1:{canary}/!/",
    "A28 unix": "http+unix://%2fvar%2frun/",
    "A28 no scheme": "//127.0.0.1:{canary}/",
    "A28 no slashes": "http:127.0.0.1",
    "A28 no host": "http:///",
    "A30 ssh": "http://127.0.0.1:22/",
    "A30 Redis": "http://127.0.0.1:6379/",
    "A30 TensorFlow Serving": "http://127.0.0.1:8500/",
    "A30 TensorFlow Serving's REST": "http://127.0.0.1:8501/",
    "A30 Kafka": "http://127.0.0.1:9092/",
    "A30 zero": "http://127.0.0.1:0/",
    "A30 over 65535": "http://127.0.0.1:65536/",
    "A30 hexadecimal": "http://127.0.0.1:0x50/",
    "A30 full-width": "http://127.0.0.1:\uff18\uff10/",
    "A31 8 KiB": "http://127.0.0.1:{host}/" + "x" * 8192,
    "A31 a label of 64": "http://" + "a" * 64 + ".com/",
    "A31 an empty label": "http://a..com/",
    "A31 empty punycode": "http://xn--/",
}


@pytest.mark.parametrize("url", rows(MALFORMED))
def test_a_url_that_breaks_a_rule_of_syntax_is_refused(world: World, url: str) -> None:
    before = world.host.connections
    world.refuses(url, 400, "invalid-url")
    assert world.host.connections == before


@pytest.mark.case("A31")
def test_a_url_of_64_kib_is_more_than_a_body_may_have(world: World) -> None:
    world.refuses("http://127.0.0.1:{host}/" + "x" * 65536, 413, "content-too-large")


@pytest.mark.case("A26")
@pytest.mark.parametrize("tail", ["#@127.0.0.1:{canary}/", "?@127.0.0.1:{canary}/"])
def test_what_follows_the_authority_is_no_authority(world: World, tail: str) -> None:
    assert world.predict("http://127.0.0.1:{host}" + tail).status == 200


@pytest.mark.case("A29")
def test_the_gateways_own_name_is_a_loop(world: World) -> None:
    """Its own answer to itself is 508, so that the caller hears no status of it."""
    document = world.refuses("http://gateway.test:{own}/readyz", 422, "url-not-allowed")
    assert document["detail"] == "The URL leads back to the gateway that would fetch it."
    assert 'reason="loop-detected"' in world.gateway.metrics()


def chain(visit: Visit) -> None:
    """One more redirect for each hop."""
    target = visit.read_request().split(b" ")[1].decode()
    visit.send(redirect(target + "x"))


def leading(location: str, status: str = "302 Found") -> str:
    return f"{status}|{location}"


ASTRAY = {
    "A32 to loopback": leading("http://127.0.0.1:{canary}/"),
    "A32 to loopback by 307": leading("http://127.0.0.1:{canary}/", "307 Temporary Redirect"),
    "A32 to a file": leading("file:///etc/passwd"),
    "A32 to gopher": leading("gopher://127.0.0.1:{canary}/"),
    "A32 with a user": leading("http://user@127.0.0.1:{host}/"),
    "A32 relative to loopback": leading("//127.0.0.1:{canary}/"),
    "A32 as an integer": leading("http://2130706433:{canary}/"),
    "A32 mapped": leading("http://[::ffff:127.0.0.1]:{canary}/"),
    "A32 to an inner name": leading("http://inner.test:{canary}/"),
    "A32 to metadata": leading("http://169.254.169.254/latest/meta-data/"),
    "A32 with a backslash": leading("http://127.0.0.1:{canary}\\@127.0.0.1:{host}/"),
    "A32 to another port": leading("http://127.0.0.1:22/"),
    "A32 to itself": leading("/"),
}


@pytest.mark.parametrize("redirection", rows(ASTRAY))
def test_a_redirect_astray_is_refused(world: World, redirection: str) -> None:
    status, _, location = redirection.partition("|")
    world.plays(answer(redirect(world.url(location), status)))
    world.refuses("http://127.0.0.1:{host}/", 422, "url-not-allowed")


@pytest.mark.case("A32")
def test_a_chain_of_four_redirects_is_refused_and_one_of_three_followed(world: World) -> None:
    before = len(world.host.requests)
    world.plays(chain)
    world.refuses("http://127.0.0.1:{host}/", 422, "url-not-allowed")
    assert len(world.host.requests) - before == 4

    def three(visit: Visit) -> None:
        hop = int(visit.read_request().split(b" ")[1].decode().strip("/") or "0")
        visit.send(redirect(f"/{hop + 1}") if hop < 3 else response(PNG))

    world.plays(three)
    assert world.predict("http://127.0.0.1:{host}/").status == 200


@pytest.mark.case("A32")
def test_https_is_not_left_for_http(world: World) -> None:
    world.plays(answer_once(redirect(world.url("http://127.0.0.1:{host}/"))), serving())
    world.refuses(f"https://{NAME}:{{host}}/", 422, "url-not-allowed")


LOCATIONS = {
    "A32 no Location": (),
    "A32 two": ("Location: /a", "Location: /b"),
    "A32 the same twice": ("Location: /a", "Location: /a"),
}


@pytest.mark.parametrize("fields", [pytest.param(LOCATIONS[name], id=name) for name in LOCATIONS])
@pytest.mark.case("A32")
def test_a_redirect_without_one_location_is_a_failed_host(
    world: World, fields: tuple[str, ...]
) -> None:
    world.plays(answer(response(b"", status="302 Found", fields=fields)))
    document = world.refuses("http://127.0.0.1:{host}/", 502, "origin-failed")
    assert document["origin_status"] == 302


@pytest.mark.case("A33")
def test_a_name_that_moves_inside_is_dialed_where_it_was_judged(world: World) -> None:
    """First the allowed address, then another, with no time to live; one lookup a fetch."""
    url = f"http://{REBINDING}:{{host}}/"
    assert world.predict(url).status == 200
    assert world.names.questions[REBINDING, "A"] == 1
    world.refuses(url, 422, "url-not-allowed")
    assert world.names.questions[REBINDING, "A"] == 2


@pytest.mark.parametrize("name", rows(NAMES_BY_CASE))
def test_a_name_with_a_bad_address_or_none_is_refused(world: World, name: str) -> None:
    for port in ("{canary}", "{host}"):
        document = world.refuses(f"http://{name}:{port}/", 422, "url-not-allowed")
        assert document["detail"] == NOT_ALLOWED


@pytest.mark.case("A35")
def test_proxies_and_credentials_of_the_environment_are_not_used(world: World) -> None:
    """HTTP_PROXY and its like name the canary, NETRC a file with a user for every host."""
    assert world.predict("http://127.0.0.1:{host}/").status == 200
    request = world.host.requests[-1].lower()
    assert b"authorization" not in request
    assert b"proxy" not in request
    assert request.startswith(b"get / http/1.1\r\n")


@pytest.mark.case("A36")
def test_other_ways_of_leading_elsewhere_are_not_followed(world: World) -> None:
    elsewhere = world.url("http://127.0.0.1:{canary}/")
    authority = world.url("127.0.0.1:{canary}")
    fields = (
        f"Refresh: 0; url={elsewhere}",
        f'Alt-Svc: http/1.1="{authority}"',
        f"Link: {elsewhere}",
    )
    world.plays(answer(response(PNG, fields=(*fields, f"Content-Location: {elsewhere}"))))
    assert world.predict("http://127.0.0.1:{host}/").status == 200
    assert world.predict("http://127.0.0.1:{host}/").status == 200
    page = f'<meta http-equiv="refresh" content="0; url={elsewhere}">'.encode()
    world.host.hang_up()
    world.plays(answer(response(page)))
    world.refuses("http://127.0.0.1:{host}/", 422, "undecodable-image")


EXPECTED: dict[type[GatewayError], tuple[int, str]] = {
    OriginTimeout: (504, "origin-timeout"),
    ImageTooLarge: (422, "image-too-large"),
}


@pytest.mark.parametrize(("script", "error"), rows(CASES))
def test_a_misbehaving_host_is_one_failed_answer(
    world: World, script: Script, error: type[GatewayError]
) -> None:
    """A host that is too slow costs its time-out and no less."""
    world.plays(script)
    started = time.monotonic()
    world.refuses("http://127.0.0.1:{host}/", *EXPECTED.get(error, (502, "origin-failed")))
    if error is OriginTimeout:
        assert time.monotonic() - started >= FETCH_TIMEOUT


@pytest.mark.parametrize("status", rows(STATUSES))
def test_another_status_is_named_and_nothing_else_of_the_answer(world: World, status: int) -> None:
    world.plays(answer(response(PNG, status=f"{status} secret-of-the-origin")))
    document = world.refuses("http://127.0.0.1:{host}/", 502, "origin-failed")
    assert document["origin_status"] == status


@pytest.mark.parametrize("context", rows(UNPROVEN))
def test_a_certificate_that_proves_nothing_is_refused_before_the_request(
    world: World, context: Context
) -> None:
    before = len(world.host.requests)
    world.plays(answer(response(PNG)), context())
    document = world.refuses(f"https://{NAME}:{{host}}/", 502, "origin-failed")
    assert document["detail"] == BAD_CERTIFICATE
    assert len(world.host.requests) == before


@pytest.mark.parametrize(("script", "context"), rows(NO_TLS))
def test_a_host_that_fails_at_tls_is_a_failed_host(
    world: World, script: Script, context: Context
) -> None:
    world.plays(script, context())
    world.refuses(f"https://{NAME}:{{host}}/", 502, "origin-failed")


@pytest.mark.parametrize(("script", "context"), rows(SLOW_TLS))
def test_a_slow_host_is_cut_in_tls_too(world: World, script: Script, context: Context) -> None:
    world.plays(script, context())
    world.refuses(f"https://{NAME}:{{host}}/", 504, "origin-timeout")


@pytest.mark.case("B15")
def test_a_host_that_demands_a_client_certificate_is_a_failed_host(world: World) -> None:
    world.plays(answer(response(PNG)), demanding_a_client_certificate())
    world.refuses(f"https://{NAME}:{{host}}/", 502, "origin-failed")


@pytest.mark.case("B15")
def test_a_certificate_of_the_name_is_believed(world: World) -> None:
    """What the rows above differ from."""
    world.plays(answer(response(PNG)), serving())
    assert world.predict(f"https://{NAME}:{{host}}/").status == 200


@pytest.mark.case("B5", "B6")
def test_the_size_limit_is_exact(world: World) -> None:
    padding = bytes(MAX_IMAGE_BYTES - len(PNG))
    world.plays(answer_once(response(PNG + padding)))
    assert world.predict("http://127.0.0.1:{host}/").status == 200
    world.plays(answer_once(response(PNG + padding + b"x")))
    world.refuses("http://127.0.0.1:{host}/", 422, "image-too-large")


@pytest.mark.case("B13")
def test_bytes_are_believed_and_not_their_type(world: World) -> None:
    world.plays(answer_once(response(PNG, fields=("Content-Type: text/html",))))
    assert world.predict("http://127.0.0.1:{host}/").status == 200
    page = b"<!doctype html><title>secret-of-the-origin</title>"
    world.plays(answer_once(response(page, fields=("Content-Type: image/png",))))
    world.refuses("http://127.0.0.1:{host}/", 422, "undecodable-image")


@pytest.mark.case("B18")
def test_a_cookie_is_not_sent_back(world: World) -> None:
    world.plays(answer(response(PNG, fields=("Set-Cookie: session=1; Path=/",))))
    connections, requests = world.host.connections, len(world.host.requests)
    for _ in range(2):
        assert world.predict("http://127.0.0.1:{host}/").status == 200
    assert len(world.host.requests) - requests == 2
    assert world.host.connections - connections == 1
    assert all(b"cookie" not in request.lower() for request in world.host.requests[requests:])


@pytest.mark.case("B19")
@pytest.mark.parametrize("early", [True, False], ids=["with the answer", "after it"])
def test_what_comes_behind_an_answer_never_serves_the_next(world: World, early: bool) -> None:
    """The poison is another status, which the second caller would hear of."""
    poison = response(b"", status="404 Poison")

    def poisoning(visit: Visit) -> None:
        visit.read_request()
        visit.send(response(PNG) + (poison if early else b""))
        poisoned.append(visit)
        visit.wait_until_gone()

    poisoned: list[Visit] = []
    world.plays(poisoning)
    connections = world.host.connections
    assert world.predict("http://127.0.0.1:{host}/").status == 200
    if not early:
        poisoned[0].send(poison)
    assert world.predict("http://127.0.0.1:{host}/").status == 200
    assert world.host.connections - connections == 2


UNREACHABLE = {
    "refused by address": "http://10.0.0.1/",
    "unknown name": "http://nobody.test/",
    "connection refused": "http://127.0.0.1:{closed}/",
    "never let in": "http://127.0.0.1:{full}/",
}


def test_all_that_cannot_be_reached_gets_the_same_bytes_none_before_the_floor(world: World) -> None:
    """Only the log tells them apart."""
    said: set[str] = set()
    reasons: set[str] = set()
    for url in UNREACHABLE.values():
        started = time.monotonic()
        heard = world.predict(url)
        assert time.monotonic() - started >= FLOOR
        document: dict[str, Any] = heard.json
        request_id = document["request_id"]
        whole = f"{heard.status} {json.dumps(heard.headers)} {heard.body.decode()}"
        said.add(whole.replace(request_id, "").replace(heard.headers["date"], ""))
        reasons.add(reason(world, request_id))
    assert len(said) == 1
    assert len(reasons) == len(UNREACHABLE)


SECRETS = ("query-secret", "user-secret", "path\x1b[31m")


def test_urls_lose_query_and_user_wherever_they_are_written(world: World) -> None:
    """In answers, the log and metrics; what is left of a caller's text is escaped."""
    told = []
    for url in (
        "http://10.0.0.1/?query-secret",
        "http://127.0.0.1:{closed}/?query-secret",
        "http://user-secret@127.0.0.1:{host}/?query-secret",
        "http://user-secret:user-secret@a.test/path\x1b[31m",
        "http://nobody.test/#query-secret",
        "ftp://user-secret@a.test/?query-secret",
    ):
        told.append(world.predict(url).body.decode())
    world.plays(answer(response(b"", status="302 Found", fields=("Location: /?query-secret",))))
    told.append(world.predict("http://127.0.0.1:{host}/?query-secret").body.decode())
    world.host.hang_up()
    world.plays(answer(response(b"", status="404 Not Found")))
    told.append(world.predict("http://127.0.0.1:{host}/?query-secret").body.decode())
    world.host.hang_up()
    world.plays(after_request(Visit.wait_until_gone))
    told.append(world.predict("http://127.0.0.1:{host}/?query-secret").body.decode())
    told += [world.gateway.metrics(), *world.gateway.process.lines]
    for secret in SECRETS:
        assert all(secret not in text for text in told), secret
