"""A request's head: read strictly, once, before anything of the request is believed.

What the parser lets through and we do not: no Host, an absolute target that names another host, a
Transfer-Encoding other than `chunked` alone, an unknown Expect. RFC 9112 and RFC 9110 are meant by
sections in comments.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from gateway.server import refusals

_LABEL = r"[A-Za-z0-9_-]{1,63}"
HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{0,5}})?")
HOST_WITH_PORT = re.compile(r":[0-9]*$")
ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class ParsedHead(Protocol):
    """What a parser knows once a head is complete; header names are in lower case."""

    method: bytes
    path: bytes
    http_version: tuple[int, int]
    headers: list[tuple[bytes, bytes]]
    content_length: int | None
    is_chunked: bool
    should_keep_alive: bool


@dataclass(frozen=True)
class Head:
    """One request's head. Texts are latin-1, as WSGI wants them; header names in lower case."""

    method: str
    path: str
    query: str
    version: tuple[int, int]
    headers: tuple[tuple[str, str], ...]
    host: str
    content_length: int | None
    chunked: bool
    keep_alive: bool

    def header(self, name: str) -> str:
        """The first field of that name, or an empty text."""
        return next((value for field, value in self.headers if field == name), "")

    def passed(self, identifier: str) -> bool:
        """Whether CDN-Loop (RFC 8586) says that the request was sent by who is called so."""
        written = ",".join(value for field, value in self.headers if field == "cdn-loop")
        return identifier in (part.partition(";")[0].strip() for part in written.split(","))

    @property
    def host_name(self) -> str:
        """The host without its port."""
        return self.host.rpartition(":")[0] if HOST_WITH_PORT.search(self.host) else self.host

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def expects_continue(self) -> bool:
        """Whether the caller holds the body back until it is asked for."""
        return bool(self.header("expect")) and self.version >= (1, 1)


def request_id_of(parsed: ParsedHead) -> str:
    """The caller's X-Request-ID if it is a plain token of at most 128 characters, else a new one.

    Asked of the parser and not of a Head, so that a head that is refused has one too.
    """
    given = [value.decode("latin-1") for name, value in parsed.headers if name == b"x-request-id"]
    usable = len(given) == 1 and REQUEST_ID.fullmatch(given[0])
    return given[0] if usable else str(uuid.uuid4())


def read_head(parsed: ParsedHead) -> Head:
    """The head that a parser has finished.

    Raises:
        Refusal: it is not one that we answer; the connection is then closed.
    """
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in parsed.headers
    )
    method = parsed.method.decode("latin-1")
    if method in {"CONNECT", "TRACE"}:
        raise refusals.method_not_allowed(METHODS)
    _check_framing(headers)
    host = _host(headers)
    path, _, query = _origin_form(parsed.path.decode("latin-1"), host).partition("?")
    head = Head(
        method=method,
        path=unquote_to_bytes(path).decode("latin-1"),
        query=query,
        version=parsed.http_version,
        headers=headers,
        host=host,
        content_length=parsed.content_length,
        chunked=parsed.is_chunked,
        keep_alive=parsed.should_keep_alive,
    )
    if method in WITH_BODY and head.content_length is None and not head.chunked:
        raise refusals.length_required()
    return head


def _check_framing(headers: tuple[tuple[str, str], ...]) -> None:
    """Refuse what would make two readers see two lengths, or a body that we cannot read."""
    for name, value in headers:
        if name == "transfer-encoding" and value.lower() != "chunked":
            raise refusals.coding_not_implemented()
        if name == "expect" and value.lower() != "100-continue":
            raise refusals.expectation_failed()
        if name == "content-encoding" and value.lower() not in {"", "identity"}:
            raise refusals.encoding_not_supported()


def _host(headers: tuple[tuple[str, str], ...]) -> str:
    """The Host field, in lower case; RFC 9112 section 3.2 wants exactly one."""
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        raise refusals.malformed("The request needs one Host header with a host name or address.")
    return hosts[0].lower()


def _origin_form(target: str, host: str) -> str:
    """The target as path and query; an absolute one (section 3.2.2) must name the same host."""
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is None and not target.startswith(("/", "*")):
        raise refusals.malformed("The request's target is neither a path nor an address over HTTP.")
    if absolute is None:
        return target.partition("#")[0]
    if absolute[1].lower() != host:
        raise refusals.malformed("The request's target and its Host header name different hosts.")
    rest = absolute[2].partition("#")[0]
    return rest if rest.startswith("/") else f"/{rest}"
