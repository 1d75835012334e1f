"""A small DNS server on loopback whose answers a test chooses, over UDP and TCP.

In a test: `with ZoneServer({"pictures.test": [Reply("192.0.2.1")]}) as names: …`. A name's replies
are given in turn, the last one ever after, one turn for each pair of questions (A and AAAA).
"""

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


@dataclass(frozen=True)
class Reply:
    """What a name has: addresses of both kinds, perhaps behind other names, or a failure."""

    addresses: Sequence[str] = ()
    aliases: Sequence[str] = ()
    ttl: int = 0
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    silent_about: frozenset[str] = frozenset()


def addresses(*texts: str, ttl: int = 0) -> Reply:
    """A reply of these addresses."""
    return Reply(texts, ttl=ttl)


class ZoneServer:
    """Answers while it is entered; counts the questions by name and kind."""

    def __init__(self, zone: Mapping[str, Sequence[Reply]]) -> None:
        self.questions: Counter[tuple[str, str]] = Counter()
        self._zone = zone
        self._stopping = threading.Event()
        self._udp, self._tcp = _same_port()
        self.port: int = self._udp.getsockname()[1]
        self._threads = [
            threading.Thread(target=serve, daemon=True)
            for serve in (self._serve_datagrams, self._serve_streams)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            waking.sendto(b"", ("127.0.0.1", self.port))
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def _serve_datagrams(self) -> None:
        while True:
            question, sender = self._udp.recvfrom(4096)
            if self._stopping.is_set():
                return
            made = self._answer(question)
            if made is not None:
                wire = made.to_wire(max_size=65535)
                if len(wire) > 1232:
                    made = dns.message.make_response(dns.message.from_wire(question))
                    made.flags |= dns.flags.TC
                    wire = made.to_wire()
                self._udp.sendto(wire, sender)

    def _serve_streams(self) -> None:
        while True:
            try:
                connected, _ = self._tcp.accept()
            except OSError:
                return
            with connected, contextlib.suppress(OSError):
                connected.settimeout(10)
                (size,) = struct.unpack("!H", connected.recv(2, socket.MSG_WAITALL))
                made = self._answer(connected.recv(size, socket.MSG_WAITALL))
                if made is not None:
                    wire = made.to_wire(max_size=65535)
                    connected.sendall(struct.pack("!H", len(wire)) + wire)

    def _answer(self, wire: bytes) -> dns.message.Message | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        replies = self._zone.get(name, [Reply(rcode=dns.rcode.NXDOMAIN)])
        reply = replies[min(self.questions[name, kind], len(replies) - 1)]
        self.questions[name, kind] += 1
        if kind in reply.silent_about:
            return None
        made = dns.message.make_response(query)
        made.set_rcode(reply.rcode)
        owner = question.name
        for alias in reply.aliases:
            target = dns.name.from_text(alias)
            made.answer.append(
                dns.rrset.from_text(owner, reply.ttl, "IN", "CNAME", target.to_text())
            )
            owner = target
        texts = [text for text in reply.addresses if (":" in text) == (kind == "AAAA")]
        if texts:
            made.answer.append(dns.rrset.from_text(owner, reply.ttl, "IN", kind, *texts))
        return made


def _same_port() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket at one free port."""
    for _ in range(100):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 0))
        try:
            return datagrams, socket.create_server(("127.0.0.1", datagrams.getsockname()[1]))
        except OSError:
            datagrams.close()
    raise OSError("no port is free for both UDP and TCP")
