"""A client that sends a POST request once, and tells exactly how it was lost if it was.

A request is lost when it did not end in a 2xx within its deadline; nothing is ever tried again.
"""

import asyncio
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

BLOCK = 1 << 16
IP_BIND_ADDRESS_NO_PORT = 24
"""ip(7): choose the port when connecting, so that one is free again for each destination."""


@dataclass(frozen=True)
class Request:
    """What every client sends, and what is kept of the answers.

    deadline: seconds from the start, with connecting, to the last byte of the answer.
    wanted: names of the response headers to keep.
    source: the address of this machine to connect from, or any.
    """

    address: tuple[str, int]
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline: float = 10.0
    wanted: tuple[str, ...] = ()
    keep_bodies: bool = False
    source: str = ""

    def encode(self) -> bytes:
        """Its bytes on the wire."""
        host, port = self.address
        fields = {"Host": f"{host}:{port}", **self.headers, "Content-Length": str(len(self.body))}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    due, started: when its turn was, and when it began.
    failure: empty, or why it is lost: refused, reset, cut, timed-out, malformed, unreachable or
        status-NNN.
    text: of a lost request, what it was doing and the error, or the beginning of the body.
    earlier: how many requests its connection had carried before it.
    headers: the wanted ones that were sent, by their wanted names.
    body: empty unless asked for.
    """

    client: int
    due: float
    started: float
    seconds: float
    status: int
    failure: str
    text: str
    earlier: int
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        place = f"request {self.earlier + 1} on its connection"
        return f"{self.failure} after {self.seconds:.3f} s, {place}: {self.text}"


FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "timed-out"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "reset"),
    (EOFError, "cut"),
    (ValueError, "malformed"),
    (OSError, "unreachable"),
)
"""What the first fitting error is called; anything else is the generator's own failure."""


@dataclass(frozen=True)
class Head:
    """The head of an HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    length: int
    closing: bool

    @classmethod
    def parse(cls, head: bytes) -> Self:
        """Raises ValueError for anything but a status, headers and a Content-Length."""
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if "content-length" not in headers and status != "204":
            raise ValueError("an answer without Content-Length: its end cannot be told from a cut")
        closing = headers.get("connection", "").lower() == "close" or version != "HTTP/1.1"
        return cls(int(status), headers, int(headers.get("content-length", "0")), closing)


class Client:
    """Sends one request at a time; `keeps` its connection, or opens one for each request."""

    def __init__(self, number: int, request: Request, *, keeps: bool) -> None:
        self.number = number
        self._request = request
        self._encoded = request.encode()
        self._keeps = keeps
        self._socket: socket.socket | None = None
        self._earlier = 0
        self._doing = ""

    async def ask(self, due: float = 0.0) -> Answer:
        """Send it once, and tell what became of it."""
        connection, earlier = self._connection(), self._earlier
        status, failure, text, body = 0, "", "", b""
        headers: dict[str, str] = {}
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._request.deadline):
                head, body = await self._exchange(connection)
            status, headers, self._earlier = head.status, head.headers, earlier + 1
            if not 200 <= status < 300:
                failure, text = f"status-{status}", body[:200].decode("utf-8", "replace")
            if head.closing or not self._keeps:
                self.close()
        except tuple(error for error, _ in FAILURES) as error:
            failure = next(name for sort, name in FAILURES if isinstance(error, sort))
            text = f"{self._doing}: {error}" if str(error) else self._doing
            self.close()
        wanted = self._request.wanted
        return Answer(
            client=self.number,
            due=due,
            started=started,
            seconds=time.monotonic() - started,
            status=status,
            failure=failure,
            text=text,
            earlier=earlier,
            headers={name: headers[name.lower()] for name in wanted if name.lower() in headers},
            body=body if self._request.keep_bodies else b"",
        )

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _connection(self) -> socket.socket:
        """The kept connection if the server has not said anything on it since, or a new one."""
        if self._socket is not None:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if not poll.poll(0):
                return self._socket
            self.close()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if self._request.source:
            self._socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            self._socket.bind((self._request.source, 0))
        self._earlier = 0
        return self._socket

    async def _exchange(self, connection: socket.socket) -> tuple[Head, bytes]:
        loop = asyncio.get_running_loop()
        if self._earlier == 0:
            self._doing = "connecting"
            await loop.sock_connect(connection, self._request.address)
        self._doing = "sending"
        await loop.sock_sendall(connection, self._encoded)
        self._doing = "waiting for the answer"
        received = await self._more(connection)
        self._doing = "reading the answer's head"
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += await self._more(connection)
        head, body = Head.parse(received[:end]), received[end + 4 :]
        while len(body) < head.length:
            self._doing = f"reading the answer's body, {len(body)} of {head.length} bytes"
            body += await self._more(connection)
        if len(body) > head.length:
            raise ValueError(f"{len(body) - head.length} bytes after the answer")
        return head, body

    @staticmethod
    async def _more(connection: socket.socket) -> bytes:
        if data := await asyncio.get_running_loop().sock_recv(connection, BLOCK):
            return data
        raise EOFError("the server closed the connection")
