"""One GET to one judged address, over a connection that may be kept for the next."""

import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import OriginFailed, URLNotAllowed
from gateway.scoring.fetch.addresses import Address, neighborhood
from gateway.scoring.fetch.connection import Connection, Disconnected, Unreachable, connect, secure
from gateway.scoring.fetch.response import Head, read_body, read_head
from gateway.scoring.fetch.url import PictureURL
from gateway.scoring.fetch.waiting import Allowance, Patience, Places

CONNECT_TIMEOUT = 3.0
"""Seconds for connecting to a host, whichever of its addresses."""
MAX_ADDRESSES_DIALED = 4
MAX_IDLE_CONNECTIONS = 64
IDLE_SECONDS = 15.0
FOUND = 200
LOOP_DETECTED = 508
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_REQUEST = (
    "GET {target} HTTP/1.1\r\n"
    "Host: {authority}\r\n"
    "User-Agent: tensorgate\r\n"
    "Accept: image/jpeg, image/png, image/webp, image/gif, image/bmp, */*;q=0.1\r\n"
    "Accept-Encoding: identity\r\n"
    "CDN-Loop: {loop_token}\r\n"
    "\r\n"
)


@dataclass(frozen=True)
class Door:
    """What a kept connection may be used for again: exactly this."""

    scheme: str
    host: str
    port: int
    address: Address


@dataclass(frozen=True)
class Picture:
    """The bytes that a URL names."""

    data: bytes


@dataclass(frozen=True)
class Redirect:
    """Where the host says that the picture is."""

    location: str


class IdleConnections:
    """Connections kept for the next picture: a bounded number, for a bounded time.

    A connection on which anything came that nobody asked for is closed, never used again.
    """

    def __init__(self, limit: int = MAX_IDLE_CONNECTIONS, seconds: float = IDLE_SECONDS) -> None:
        self._limit = limit
        self._seconds = seconds
        self._idle: list[tuple[float, Door, Connection]] = []
        self._lock = threading.Lock()

    def take(self, door: Door) -> Connection | None:
        """The one used last of those through this door, if any is left and still usable."""
        while (connection := self._pop(door)) is not None:
            if connection.is_idle():
                return connection
            connection.close()
        return None

    def keep(self, door: Door, connection: Connection) -> None:
        """Keep a connection whose last answer was read whole; the oldest makes room."""
        with self._lock:
            self._idle.append((time.monotonic(), door, connection))
            surplus = self._idle[: -self._limit]
            self._idle = self._idle[-self._limit :]
        for _, _, old in surplus:
            old.close()

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    def _pop(self, door: Door) -> Connection | None:
        with self._lock:
            self._drop_old()
            for index in range(len(self._idle) - 1, -1, -1):
                if self._idle[index][1] == door:
                    return self._idle.pop(index)[2]
        return None

    def _drop_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._idle and self._idle[0][0] <= oldest:
            self._idle.pop(0)[2].close()


class Dial(Protocol):
    """Connects to an address and a port."""

    def __call__(self, address: Address, port: int, patience: Patience, /) -> socket.socket:
        """A connected socket that never blocks."""


class Transport:
    """Sends a GET to the addresses it is told, and to no others; no proxy, cookie or credential.

    Args:
        places: for fetches from one IPv4 address or IPv6 /64.
        tls: how hosts prove who they are.
        loop_token: by which the gateway knows a request as its own (RFC 8586).
        dial: makes a connection to an address.
    """

    def __init__(
        self,
        places: Places,
        tls: ssl.SSLContext,
        loop_token: str,
        dial: Dial = connect,
    ) -> None:
        self._places = places
        self._tls = tls
        self._loop_token = loop_token
        self._dial = dial
        # Python has OpenSSL 3 take a cut connection for the end of the stream.
        self._tls.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        self._idle = IdleConnections()

    def get(
        self,
        url: PictureURL,
        addresses: tuple[Address, ...],
        allowance: Allowance,
        patience: Patience,
    ) -> Picture | Redirect:
        """The picture, or where it is, from the first of the addresses that can be reached.

        Raises:
            Unreachable: none of them can be.
            OriginFailed: the host answers something else, or breaks HTTP.
            ImageTooLarge: the body has more bytes than allowed.
            TimeUp: the host is connected and too slow.
        """
        failures = []
        dialed = addresses[:MAX_ADDRESSES_DIALED]
        for address in dialed:
            door = Door(url.scheme, url.host, url.port, address)
            try:
                with self._places.hold(neighborhood(address), allowance.request, patience):
                    return self._get_through(
                        door, url, allowance, patience, CONNECT_TIMEOUT / len(dialed)
                    )
            except Unreachable as error:
                failures.append(str(error))
        raise Unreachable("; ".join(failures))

    def close(self) -> None:
        """Close the connections kept."""
        self._idle.close()

    def _get_through(
        self,
        door: Door,
        url: PictureURL,
        allowance: Allowance,
        patience: Patience,
        connect_timeout: float,
    ) -> Picture | Redirect:
        kept = self._idle.take(door)
        if kept is not None:
            try:
                return self._exchange(kept, door, url, allowance, patience)
            except Disconnected:
                patience.check()
        plain = self._dial(door.address, door.port, patience.sooner(connect_timeout))
        secured = secure(plain, door.host, self._tls, patience) if door.scheme == "https" else plain
        try:
            return self._exchange(Connection(secured), door, url, allowance, patience)
        except Disconnected as error:
            message = "The picture's host closed the connection without an answer."
            raise OriginFailed(message, log_detail=str(error)) from error

    def _exchange(
        self,
        connection: Connection,
        door: Door,
        url: PictureURL,
        allowance: Allowance,
        patience: Patience,
    ) -> Picture | Redirect:
        """Send the request and read the answer; keep the connection if nothing is left on it."""
        reusable = False
        try:
            connection.send(request(url, self._loop_token), patience)
            head = read_head(connection, patience)
            if head.status != FOUND:
                return redirect(head)
            if head.encoded:
                raise OriginFailed("The picture's host sent a compressed body, unasked.")
            data = read_body(head, connection, allowance, patience)
            reusable = head.keeps_alive and head.framed
            return Picture(data)
        finally:
            if reusable and connection.is_idle():
                self._idle.keep(door, connection)
            else:
                connection.close()


def request(url: PictureURL, loop_token: str) -> bytes:
    """The request's bytes, built from the parts of the URL."""
    text = _REQUEST.format(target=url.target, authority=url.authority, loop_token=loop_token)
    return text.encode("ascii")


def redirect(head: Head) -> Redirect:
    """Where an answer without a picture leads.

    Raises:
        OriginFailed: nowhere.
        URLNotAllowed: back to where the request came from.
    """
    if head.status == LOOP_DETECTED:
        raise URLNotAllowed("The URL leads back to the gateway that would fetch it.")
    if head.status not in REDIRECTS:
        message = f"The picture's host answered with status {head.status}."
        raise OriginFailed(message, origin_status=head.status)
    try:
        (location,) = head.locations
        return Redirect(location.decode("utf-8"))
    except ValueError as error:
        message = f"The picture's host answered with status {head.status} and no single Location."
        raise OriginFailed(message, origin_status=head.status) from error
