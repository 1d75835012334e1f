"""A proxy through which pictures are fetched: asked to CONNECT to the judged address.

The proxy is given an address and never a name, so that what was judged is what it dials, for http
and https alike. Its own address comes from the settings and is not judged.
"""

import base64
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from gateway.errors import EgressUnavailable, OriginFailed
from gateway.scoring.fetch.addresses import Address
from gateway.scoring.fetch.connection import Connection, Disconnected, Unreachable, connect
from gateway.scoring.fetch.resolve import NameUnknown, Resolver
from gateway.scoring.fetch.response import read_head
from gateway.scoring.fetch.waiting import Patience, TimeUp
from gateway.settings import Secret

PROXY_AUTHENTICATION_REQUIRED = 407
UNAVAILABLE = "Pictures cannot be fetched now: the gateway's own way out fails."


class EgressProxy:
    """Opens tunnels through one proxy.

    Args:
        host: its name or address.
        port: its port.
        credentials: user and password with a colon between them, if it wants any.
        resolver: finds the addresses of its name.
    """

    def __init__(
        self, host: str, port: int, credentials: Secret | None, resolver: Resolver
    ) -> None:
        self._host = host
        self._port = port
        self._credentials = credentials
        self._resolver = resolver

    def dial(self, address: Address, port: int, patience: Patience) -> socket.socket:
        """A socket whose other end is, through the proxy, this address and port.

        Raises:
            Unreachable: the proxy will not or cannot reach it, or not in time.
            EgressUnavailable: the proxy itself fails.
        """
        reached = self._reach(patience)
        try:
            self._open_tunnel(Connection(reached), address, port, patience)
        except TimeUp as error:
            reached.close()
            raise Unreachable(f"{address} port {port}: no tunnel in time") from error
        except (Disconnected, OriginFailed) as error:
            reached.close()
            raise EgressUnavailable(
                UNAVAILABLE, log_detail=f"the egress proxy speaks no HTTP: {error}"
            ) from error
        except BaseException:
            reached.close()
            raise
        return reached

    def _reach(self, patience: Patience) -> socket.socket:
        failures = []
        try:
            for address in self._addresses(patience):
                try:
                    return connect(address, self._port, patience)
                except Unreachable as error:
                    failures.append(str(error))
        except NameUnknown as error:
            failures.append(str(error))
        raise EgressUnavailable(UNAVAILABLE, log_detail=f"the egress proxy: {'; '.join(failures)}")

    def _addresses(self, patience: Patience) -> tuple[Address, ...]:
        if self._host == "localhost":
            return (IPv4Address("127.0.0.1"),)
        try:
            return (ip_address(self._host),)
        except ValueError:
            return self._resolver.lookup(self._host, patience)

    def _open_tunnel(
        self, connection: Connection, address: Address, port: int, patience: Patience
    ) -> None:
        connection.send(self._request(address, port), patience)
        status = read_head(connection, patience).status
        if status == PROXY_AUTHENTICATION_REQUIRED:
            raise EgressUnavailable(UNAVAILABLE, log_detail="the egress proxy wants credentials")
        if not 200 <= status < 300:
            raise Unreachable(f"{address} port {port}: the egress proxy answered {status}")
        if not connection.is_idle():
            raise Disconnected("bytes before anything was asked through the tunnel")

    def _request(self, address: Address, port: int) -> bytes:
        """RFC 9110, section 9.3.6."""
        host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
        lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
        if self._credentials is not None:
            encoded = base64.b64encode(self._credentials.value).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {encoded}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")
