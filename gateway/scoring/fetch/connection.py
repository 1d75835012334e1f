"""One connection to a picture's host, whose every wait obeys the fetch's clock.

The socket never blocks: each connect, handshake step, send and receive that cannot go on at once
waits in `Patience`. (A socket's own time-out starts anew with each receive, so that one byte a
second lasts for ever; urllib3's total time-out does the same.)
"""

import errno
import os
import select
import socket
import ssl
from ipaddress import ip_address

from gateway.errors import OriginFailed
from gateway.scoring.fetch.addresses import Address
from gateway.scoring.fetch.waiting import Patience, TimeUp

RECEIVE_BYTES = 64 * 1024
HEAD_RECEIVE_BYTES = 16 * 1024
"""Fewer while a line or a head is looked for, as what follows it would be copied once more."""
BAD_CERTIFICATE = "The certificate of the picture's host does not prove that it is that host."
TLS_FAILED = "The picture's host failed to open a TLS connection."


class Unreachable(Exception):
    """No connection could be made; the text is for the log."""


class Disconnected(Exception):
    """The connection broke; the text is for the log."""


class Connection:
    """A connected socket, in plain text or TLS, and the bytes received and not yet read."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._unread = bytearray()

    def send(self, data: bytes, patience: Patience) -> None:
        """Send all of it.

        Raises:
            Disconnected: the other side is gone.
            TimeUp: it takes too long.
        """
        unsent = memoryview(data)
        while unsent:
            patience.check()
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                patience.wait_for_socket(self._socket, select.POLLOUT)
            except ssl.SSLWantReadError:
                patience.wait_for_socket(self._socket, select.POLLIN)
            except OSError as error:
                raise Disconnected(f"sending: {error}") from error

    def receive_into(self, space: memoryview, patience: Patience) -> int:
        """Put what has come into the space; its size in bytes, 0 at the end of the stream.

        Raises:
            Disconnected: the connection was reset, or TLS ended without saying so.
            TimeUp: nothing came in time.
        """
        while True:
            patience.check()
            try:
                return self._socket.recv_into(space)
            except (BlockingIOError, ssl.SSLWantReadError):
                patience.wait_for_socket(self._socket, select.POLLIN)
            except ssl.SSLWantWriteError:
                patience.wait_for_socket(self._socket, select.POLLOUT)
            except OSError as error:
                raise Disconnected(f"receiving: {error}") from error

    def read_some(self, limit: int, patience: Patience) -> bytes:
        """What has come and is not read, at most that many bytes; nothing at the stream's end."""
        if not self._unread:
            self._receive(min(limit, RECEIVE_BYTES), patience)
        return self._take(limit)

    def read_into(self, space: memoryview, patience: Patience) -> None:
        """Fill the space; nothing beyond it is taken off the socket.

        Raises:
            Disconnected: the stream ends before.
        """
        taken = self._take(len(space))
        space[: len(taken)] = taken
        unfilled = space[len(taken) :]
        while unfilled:
            received = self.receive_into(unfilled, patience)
            if not received:
                raise Disconnected(f"the stream ended {len(unfilled)} bytes early")
            unfilled = unfilled[received:]

    def read_until(self, mark: bytes, limit: int, patience: Patience) -> bytes:
        """What comes before the mark, which is taken too.

        Raises:
            OriginFailed: more than that many bytes come without it.
            Disconnected: the stream ends before it.
        """
        searched = 0
        while (end := self._unread.find(mark, searched, limit)) < 0:
            if len(self._unread) >= limit:
                raise OriginFailed("The picture's host sent a longer head than HTTP needs.")
            searched = max(0, len(self._unread) - len(mark) + 1)
            if not self._receive(HEAD_RECEIVE_BYTES, patience):
                raise Disconnected(f"the stream ended after {len(self._unread)} bytes")
        return self._take(end + len(mark))[:end]

    def is_idle(self) -> bool:
        """Whether the other side has neither closed nor sent what nobody asked for."""
        if self._unread:
            return False
        try:
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """End it, without waiting."""
        self._socket.close()

    def _receive(self, size: int, patience: Patience) -> int:
        space = bytearray(size)
        received = self.receive_into(memoryview(space), patience)
        self._unread += memoryview(space)[:received]
        return received

    def _take(self, size: int) -> bytes:
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken


def connect(address: Address, port: int, patience: Patience) -> socket.socket:
    """A socket connected to this address and no other.

    Raises:
        Unreachable: it refuses, does not answer in time, or there is no way to it.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    dialing = socket.socket(family, socket.SOCK_STREAM)
    try:
        dialing.setblocking(False)
        dialing.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _dial(dialing, (str(address), port), patience)
        reached = ip_address(dialing.getpeername()[0])
        if reached != address:
            raise Unreachable(f"dialed {address} and reached {reached}")
    except OSError as error:
        dialing.close()
        raise Unreachable(f"{address} port {port}: {error}") from error
    except TimeUp as error:
        dialing.close()
        raise Unreachable(f"{address} port {port}: no connection in time") from error
    except BaseException:
        dialing.close()
        raise
    return dialing


def _dial(dialing: socket.socket, to: tuple[str, int], patience: Patience) -> None:
    code = dialing.connect_ex(to)
    if code == errno.EINPROGRESS:
        patience.wait_for_socket(dialing, select.POLLOUT)
        code = dialing.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def secure(
    plain: socket.socket, name: str, context: ssl.SSLContext, patience: Patience
) -> ssl.SSLSocket:
    """TLS on a connected socket, the certificate checked for the name.

    Raises:
        OriginFailed: the certificate is not that of the name, or TLS fails.
        TimeUp: the handshake takes too long.
    """
    try:
        secured = context.wrap_socket(
            plain, server_hostname=name, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
    except (OSError, ValueError) as error:
        plain.close()
        raise OriginFailed(TLS_FAILED, log_detail=str(error)) from error
    try:
        _shake_hands(secured, patience)
    except BaseException:
        secured.close()
        raise
    return secured


def _shake_hands(secured: ssl.SSLSocket, patience: Patience) -> None:
    while True:
        patience.check()
        try:
            return secured.do_handshake()
        except ssl.SSLWantReadError:
            patience.wait_for_socket(secured, select.POLLIN)
        except ssl.SSLWantWriteError:
            patience.wait_for_socket(secured, select.POLLOUT)
        except ssl.SSLCertVerificationError as error:
            raise OriginFailed(BAD_CERTIFICATE, log_detail=error.verify_message) from error
        except OSError as error:
            raise OriginFailed(TLS_FAILED, log_detail=str(error)) from error
