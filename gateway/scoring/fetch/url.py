"""One strict parse of a URL that a stranger wrote.

Parsers disagree on where a URL's host is, and every disagreement is a way around a guard. So there
is one parse, it refuses whatever any parser could read otherwise, and what is sent to the host is
built anew from its parts.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

from gateway.errors import InvalidURL, URLNotAllowed
from gateway.scoring.fetch.addresses import Address, FetchPolicy
from gateway.scoring.fetch.signing import is_signed

MAX_URL_CHARACTERS = 8192
MAX_NAME_CHARACTERS = 253
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)(#.*)?", re.I)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_IPV4 = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.I)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_SAFE_IN_TARGET = "%/:?[]@!$&'()*+,;=~-._"


@dataclass(frozen=True)
class PictureURL:
    """A URL that passed: every part of it is plain ASCII.

    Attributes:
        scheme: http or https.
        host: the name in lower case, or the address as text without brackets.
        address: the address, if the host is one.
        port: the port, the scheme's own if the URL names none.
        target: path and query, percent-encoded.
    """

    scheme: str
    host: str
    address: Address | None
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse(url: str, policy: FetchPolicy) -> PictureURL:
    """Read a URL, whole, by one set of rules; a fragment is dropped once its signature is checked.

    Raises:
        InvalidURL: it breaks a rule; the message says which.
        URLNotAllowed: the policy has keys, and it is not signed by one of them.
    """
    _check_characters(url)
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidURL("The URL must start with http:// or https://.")
    scheme = match["scheme"].lower()
    host, digits = _split_authority(match["authority"])
    port = DEFAULT_PORTS[scheme] if digits is None else _port(digits)
    if not policy.admits_port(port):
        allowed = ", ".join(str(number) for number in sorted(policy.ports))
        raise InvalidURL(f"The URL's port {port} is not allowed; allowed are {allowed}.")
    address = _address(host)
    if address is None:
        _check_name(host, policy)
    if policy.keys and not is_signed(url, policy.keys):
        raise URLNotAllowed("The URL is not signed by a key of this gateway.")
    return PictureURL(
        scheme, host if address is None else str(address), address, port, _target(match["rest"])
    )


def join(base: PictureURL, location: str, policy: FetchPolicy) -> PictureURL:
    """Where a redirect from one URL leads; a relative location is taken from that URL.

    Raises:
        InvalidURL: the result breaks a rule.
        URLNotAllowed: it must be signed and is not.
    """
    _check_characters(location)
    if _SCHEME.match(location):
        return parse(location, policy)
    if location.startswith("//"):
        return parse(f"{base.scheme}:{location}", policy)
    return parse(urljoin(str(base), location), policy)


def _check_characters(url: str) -> None:
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidURL(f"The URL is longer than {MAX_URL_CHARACTERS} characters.")
    if "\\" in url:
        raise InvalidURL("The URL holds a backslash.")
    if " " in url or not url.isprintable():
        raise InvalidURL("The URL holds white space or a control character; percent-encode it.")


def _split_authority(authority: str) -> tuple[str, str | None]:
    if "@" in authority:
        raise InvalidURL("The URL holds a user name or password before its host; leave it out.")
    if "%" in authority:
        raise InvalidURL("The URL's host holds a percent sign.")
    if not authority.isascii():
        raise InvalidURL("The URL's host is not plain ASCII; write an international name as xn--.")
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidURL("The URL's host opens a square bracket and is no IPv6 address.")
        return host + bracket, rest[1:] if rest else None
    host, colon, digits = authority.partition(":")
    return host.lower(), digits if colon else None


def _port(digits: str) -> int:
    if not _PORT.fullmatch(digits) or int(digits) > 65535:
        raise InvalidURL("The URL's port is not a number from 1 to 65535 in plain digits.")
    return int(digits)


def _address(host: str) -> Address | None:
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1])
        except ValueError as error:
            raise InvalidURL("The URL's host in square brackets is no IPv6 address.") from error
    if not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return None
    if not _IPV4.fullmatch(host) or any(int(part) > 255 for part in host.split(".")):
        raise InvalidURL(
            "The URL's host ends in a number and is no IPv4 address of four decimal numbers."
        )
    return IPv4Address(host)


def _check_name(host: str, policy: FetchPolicy) -> None:
    if not host:
        raise InvalidURL("The URL has no host.")
    if len(host) > MAX_NAME_CHARACTERS:
        raise InvalidURL(f"The URL's host is longer than {MAX_NAME_CHARACTERS} characters.")
    if host.endswith("."):
        raise InvalidURL("The URL's host ends in a dot.")
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidURL(
            "The URL's host is no host name: its parts have 1 to 63 letters, digits and hyphens."
        )
    if len(labels) == 1 and not policy.admits_short_names():
        raise InvalidURL("The URL's host is a name without a dot, which no public host has.")


def _target(rest: str) -> str:
    try:
        encoded = quote(rest, safe=_SAFE_IN_TARGET, errors="strict")
    except UnicodeEncodeError as error:
        raise InvalidURL("The URL holds half a character (a lone surrogate).") from error
    return encoded if encoded.startswith("/") else "/" + encoded
