"""Scripts for a `HostileOrigin` that is a proxy: it makes tunnels, refuses, or is broken."""

import contextlib
import socket
import threading

from tests.support.hostile_origin import Script, Visit, after_request

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def tunnel(visit: Visit) -> None:
    """Connect to whom the visitor names and carry bytes both ways until either side ends."""
    request = visit.read_request()
    if not request:
        return
    host, _, port = request.split(b" ")[1].decode().rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=30) as far:
        visit.send(ESTABLISHED)
        back = threading.Thread(target=_carry, args=(far, visit.socket))
        back.start()
        _carry(visit.socket, far)
        back.join()


def saying(data: bytes) -> Script:
    """A proxy that answers each request with these bytes, and nothing after them."""

    def say(visit: Visit) -> None:
        visit.send(data)
        visit.wait_until_gone()

    return after_request(say)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
