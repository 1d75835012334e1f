"""URLs that strangers write: which are read, how, and which rule the others break."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidURL
from gateway.scoring.fetch.addresses import FetchPolicy
from gateway.scoring.fetch.url import join, parse
from gateway.settings import networks
from tests.support.cases import rows

PUBLIC = FetchPolicy(frozenset({80, 443}))
INTERNAL = FetchPolicy(frozenset({80, 443}), networks("10.0.0.0/8:9000,127.0.0.0/8"))

IPV4_FORM = "no IPv4 address of four decimal numbers"
HOST_NAME = "no host name"
CONTROL = "white space or a control character"
PORT = "port"
REFUSED = {
    "A2 integer": ("http://2130706433/", IPV4_FORM),
    "A3 hexadecimal": ("http://0x7f000001/", IPV4_FORM),
    "A3 hexadecimal upper case": ("http://0X7F000001/", IPV4_FORM),
    "A4 hexadecimal parts": ("http://0x7f.1/", IPV4_FORM),
    "A4 hexadecimal last part": ("http://127.0.0.0x1/", IPV4_FORM),
    "A5 octal": ("http://0177.0.0.1/", IPV4_FORM),
    "A5 octal last part": ("http://127.0.0.01/", IPV4_FORM),
    "A5 octal integer": ("http://017700000001/", IPV4_FORM),
    "A6 two parts": ("http://127.1/", IPV4_FORM),
    "A6 three parts": ("http://127.0.1/", IPV4_FORM),
    "A6 five parts": ("http://127.0.0.0.1/", IPV4_FORM),
    "A7 zero": ("http://0/", IPV4_FORM),
    "a part over 255": ("http://127.0.0.256/", IPV4_FORM),
    "a trailing dot on an address": ("http://127.0.0.1./", IPV4_FORM),
    "a name that ends in a number": ("http://a.com.1/", IPV4_FORM),
    "empty hexadecimal": ("http://1.2.3.0x/", IPV4_FORM),
    "A19 zone": ("http://[fe80::1%25eth0]/", "percent sign"),
    "A22 circled digits": ("http://①②⑦.⓪.⓪.①/", "plain ASCII"),
    "A22 ideographic dots": ("http://127。0。0。1/", "plain ASCII"),
    "A22 circled letter": ("http://ⓛocalhost/", "plain ASCII"),
    "A22 soft hyphen": ("http://a\u00adb.com/", CONTROL),
    "A22 zero-width": ("http://a\u200bb.com/", CONTROL),
    "A22 full-width full stop": ("http://a\uff0ecom/", "plain ASCII"),
    "A23 percent NUL": ("http://127.0.0.1%00.a.com/", "percent sign"),
    "A23 raw NUL": ("http://127.0.0.1\0.a.com/", CONTROL),
    "A24 user": ("http://good@127.0.0.1/", "user name"),
    "A24 user and password": ("http://good:80@127.0.0.1:81/", "user name"),
    "A24 two users": ("http://a@b@c.com/", "user name"),
    "A25 backslash then at": ("http://127.0.0.1\\@a.com/", "backslash"),
    "A25 at after backslash": ("http://a.com\\@127.0.0.1/", "backslash"),
    "A25 backslashes for slashes": ("http:\\\\a.com/", "backslash"),
    "A26 encoded slash": ("http://a.com%2f@127.0.0.1/", "user name"),
    "A27 CRLF": ("http://127.0.0.1\r\nX: y/", CONTROL),
    "A27 CRLF in the path": ("http://a.com/x\r\nHost: b", CONTROL),
    "A27 tab": ("http://a.com/\tx", CONTROL),
    "A27 tab in the scheme": ("ht\ttp://a.com/", CONTROL),
    "A27 space inside": ("http://a.com/a b.jpg", CONTROL),
    "A27 space before": (" http://a.com/", CONTROL),
    "A27 space after": ("http://a.com/ ", CONTROL),
    "A27 control before": ("\x01http://a.com/", CONTROL),
    "A27 DEL": ("http://a.com/\x7f", CONTROL),
    "A27 no-break space": ("http://a.com/\xa0", CONTROL),
    "A27 line separator": ("http://a.com/\u2028", CONTROL),
    "A27 right-to-left override": ("http://a.com/\u202egpj.exe", CONTROL),
    "A28 file": ("file:///etc/passwd", "must start with"),
    "A28 gopher": ("gopher://a.com/", "must start with"),
    "A28 ftp": ("ftp://a.com/", "must start with"),
    "A28 dict": ("dict://a.com/", "must start with"),
    "A28 data": ("data:image/png;base64,AAAA", "must start with"),
    "A28 jar": ("jar:http://a.com/!/", "must start with"),
    "A28 unix": ("http+unix://%2fvar%2frun/", "must start with"),
    "A28 no scheme": ("//a.com/", "must start with"),
    "A28 no slashes": ("http:a.com", "must start with"),
    "A28 one slash": ("http:/a.com", "must start with"),
    "A28 no host": ("http:///", "no host"),
    "no host but a port": ("http://:80/", "no host"),
    "nothing": ("", "must start with"),
    "a word": ("picture.jpg", "must start with"),
    "A29 single label": ("http://pictures/", "without a dot"),
    "A29 localhost": ("http://localhost/", "without a dot"),
    "A30 port 22": ("http://a.com:22/", PORT),
    "A30 port 6379": ("http://a.com:6379/", PORT),
    "A30 port 8500": ("http://a.com:8500/", PORT),
    "A30 port 8501": ("http://a.com:8501/", PORT),
    "A30 port 9092": ("http://a.com:9092/", PORT),
    "A30 port 0": ("http://a.com:0/", PORT),
    "A30 port 65536": ("http://a.com:65536/", PORT),
    "A30 port in hexadecimal": ("http://a.com:0x50/", PORT),
    "A30 port in full-width digits": ("http://a.com:\uff18\uff10/", "plain ASCII"),
    "port with a leading zero": ("http://a.com:080/", PORT),
    "port with a sign": ("http://a.com:+80/", PORT),
    "negative port": ("http://a.com:-12/", PORT),
    "empty port": ("http://a.com:/", PORT),
    "two ports": ("http://a.com:80:80/", PORT),
    "port after an IPv6 address": ("http://[2600::1]:22/", PORT),
    "A31 8 KiB and one": ("http://a.com/" + "x" * (8192 - 12), "longer than 8192"),
    "A31 64 KiB": ("http://a.com/" + "x" * 65536, "longer than 8192"),
    "A31 label of 64": ("http://" + "a" * 64 + ".com/", HOST_NAME),
    "A31 name of 254": ("http://" + "a." * 126 + "co/", "longer than 253"),
    "A31 empty label": ("http://a..com/", HOST_NAME),
    "A31 leading dot": ("http://.com.de/", HOST_NAME),
    "A31 trailing dot": ("http://a.com./", "ends in a dot"),
    "A31 empty punycode": ("http://xn--.com/", HOST_NAME),
    "a label that starts with a hyphen": ("http://-a.com/", HOST_NAME),
    "a label that ends in a hyphen": ("http://a-.com/", HOST_NAME),
    "a comma": ("http://a,b.com/", HOST_NAME),
    "a semicolon": ("http://a.com;b.com/", HOST_NAME),
    "brackets opened": ("http://[::1/", "square bracket"),
    "brackets twice": ("http://[[::1]]/", "square bracket"),
    "brackets around a name": ("http://[a.com]/", "no IPv6 address"),
    "brackets around IPv4": ("http://[127.0.0.1]/", "no IPv6 address"),
    "something after the bracket": ("http://[::1]a.com/", "square bracket"),
    "something before the bracket": ("http://a[::1]/", PORT),
    "IPv6 without brackets": ("http://::1/", PORT),
    "brackets closed only": ("http://a.com]/", HOST_NAME),
    "a lone surrogate in the path": ("http://a.com/\ud800", CONTROL),
    "a percent sign in the host": ("http://a%2ecom/", "percent sign"),
    "quotes in the host": ('http://a"b.com/', HOST_NAME),
}


@pytest.mark.parametrize(("url", "rule"), rows(REFUSED))
def test_a_url_that_breaks_a_rule_is_refused_and_the_rule_is_named(url: str, rule: str) -> None:
    with pytest.raises(InvalidURL) as refusal:
        parse(url, PUBLIC)
    assert rule in refusal.value.message


READ = {
    "a name": ("http://example.com/a.jpg", "example.com", 80, "/a.jpg"),
    "https": ("https://example.com/a.jpg", "example.com", 443, "/a.jpg"),
    "upper case": ("HTTPS://EXAMPLE.Com/A.jpg", "example.com", 443, "/A.jpg"),
    "no path": ("http://example.com", "example.com", 80, "/"),
    "a query alone": ("http://example.com?a=b", "example.com", 80, "/?a=b"),
    "query": ("http://example.com/a?b=c&d=%20", "example.com", 80, "/a?b=c&d=%20"),
    "a fragment is dropped": ("http://example.com/a#b?c", "example.com", 80, "/a"),
    "A26 at in the fragment": ("http://a.com#@127.0.0.1/", "a.com", 80, "/"),
    "A26 at in the query": ("http://a.com?@127.0.0.1/", "a.com", 80, "/?@127.0.0.1/"),
    "A26 at in the path": ("http://a.com/@127.0.0.1/", "a.com", 80, "/@127.0.0.1/"),
    "its own port": ("http://example.com:80/", "example.com", 80, "/"),
    "the other port": ("http://example.com:443/", "example.com", 443, "/"),
    "punycode": ("http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80, "/"),
    "underscore and hyphen": ("http://my_shop.a-b.com/", "my_shop.a-b.com", 80, "/"),
    "international path": ("http://a.com/größe.jpg", "a.com", 80, "/gr%C3%B6%C3%9Fe.jpg"),
    "characters that need encoding": ('http://a.com/"<>^`{|}', "a.com", 80, None),
    "8 KiB": ("http://a.com/" + "x" * (8192 - 13), "a.com", 80, "/" + "x" * (8192 - 13)),
    "label of 63": ("http://" + "a" * 63 + ".com/", "a" * 63 + ".com", 80, "/"),
}


@pytest.mark.parametrize(("url", "host", "port", "target"), rows(READ))
def test_a_plain_url_is_read_into_its_parts(
    url: str, host: str, port: int, target: str | None
) -> None:
    parsed = parse(url, PUBLIC)
    assert (parsed.host, parsed.port, parsed.address) == (host, port, None)
    assert target is None or parsed.target == target
    assert str(parsed).isascii()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("[::1]", "::1"),
        ("[::]", "::"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[::ffff:7f00:1]", "::ffff:7f00:1"),
        ("[::127.0.0.1]", "::127.0.0.1"),
        ("[64:ff9b::a9fe:a9fe]", "64:ff9b::a9fe:a9fe"),
        ("[FE80::1]", "fe80::1"),
    ],
)
def test_literal_addresses_are_read_as_addresses_for_the_judge(host: str, address: str) -> None:
    parsed = parse(f"http://{host}/", PUBLIC)
    assert parsed.address == ipaddress.ip_address(address)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://example.com/", "example.com"),
        ("https://example.com:443/", "example.com"),
        ("https://example.com:80/", "example.com:80"),
        ("http://[2600:0::1]:443/", "[2600::1]:443"),
        ("http://1.2.3.4/", "1.2.3.4"),
    ],
)
def test_the_host_header_is_built_from_the_parts(url: str, authority: str) -> None:
    assert parse(url, PUBLIC).authority == authority


def test_names_without_a_dot_are_read_once_networks_are_allowed() -> None:
    assert parse("http://pictures:9000/a.jpg", INTERNAL).host == "pictures"
    assert parse("http://localhost/", INTERNAL).host == "localhost"


def test_a_port_that_an_allowed_network_names_is_read() -> None:
    assert parse("http://pictures.example:9000/", INTERNAL).port == 9000
    with pytest.raises(InvalidURL, match="port 9001 is not allowed; allowed are 80, 443"):
        parse("http://pictures.example:9001/", INTERNAL)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://b.com/x.jpg", "http://b.com/x.jpg"),
        ("https://b.com", "https://b.com/"),
        ("//b.com/x", "http://b.com/x"),
        ("/x", "http://a.com/x"),
        ("x", "http://a.com/dir/x"),
        ("../x", "http://a.com/x"),
        ("../../../x", "http://a.com/x"),
        ("?q=1", "http://a.com/dir/page?q=1"),
        ("#part", "http://a.com/dir/page"),
        ("", "http://a.com/dir/page"),
        ("/größe", "http://a.com/gr%C3%B6%C3%9Fe"),
    ],
)
def test_a_relative_location_is_taken_from_the_url_before(location: str, expected: str) -> None:
    base = parse("http://a.com/dir/page", PUBLIC)
    assert str(join(base, location, PUBLIC)) == expected


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "http://user@b.com/",
        "//user@b.com/",
        "http:b.com",
        "http:///b.com",
        "javascript:alert(1)",
        "\thttp://b.com/",
        "http://b.com/\r\nX: y",
        "\\\\b.com/",
        "http://b.com:22/",
        "//2130706433/",
        "//[::1",
        "x:y",
    ],
)
def test_a_location_obeys_the_same_rules(location: str) -> None:
    with pytest.raises(InvalidURL):
        join(parse("http://a.com/dir/page", PUBLIC), location, PUBLIC)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "http://a.com"]))
def test_any_text_is_read_or_refused_and_what_is_read_is_plain(tail: str, start: str) -> None:
    try:
        parsed = parse(start + tail, INTERNAL)
    except InvalidURL:
        return
    again = urlsplit(str(parsed))
    assert str(parsed).isascii()
    assert str(parsed).isprintable()
    assert " " not in str(parsed)
    assert (again.scheme, again.hostname, again.username) == (parsed.scheme, parsed.host, None)
    assert (again.port or {"http": 80, "https": 443}[again.scheme]) == parsed.port
    assert parse(str(parsed), INTERNAL) == parsed


@given(st.text(alphabet="ab.:/@[]%\\#?0x1-_", max_size=25))
def test_any_authority_is_read_as_other_parsers_read_it_or_refused(authority: str) -> None:
    try:
        parsed = parse("http://" + authority, INTERNAL)
    except InvalidURL:
        return
    assert urlsplit("http://" + authority).hostname == parsed.host


@given(st.text(max_size=40))
def test_any_location_is_joined_or_refused(location: str) -> None:
    base = parse("https://a.com/dir/page", PUBLIC)
    try:
        joined = join(base, location, PUBLIC)
    except InvalidURL:
        return
    assert parse(str(joined), PUBLIC) == joined
