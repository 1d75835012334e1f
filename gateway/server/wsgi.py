"""One request through a WSGI application (PEP 3333), its body and its answer whole in memory.

The application finds these keys in its environ beside WSGI's own:

- `tensorgate.deadline`: Deadline, started with the request's first byte
- `tensorgate.request_id`: str, also sent back as X-Request-ID
- `tensorgate.queue_seconds`: float, how long the whole request waited for a thread
- `tensorgate.cancelled`: Cancellation, set when nobody waits for the answer any more
- `tensorgate.draining`: bool, whether the process is about to stop
- `tensorgate.caller`: Caller, who asks; REMOTE_ADDR is its address, and not a trusted proxy's
- `tensorgate.count_pictures`: to be called once with the number of the request's pictures; raises
  RateLimited when they are too many for this caller now
"""

import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.callers import Caller
from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.server.answers import Answer
from gateway.server.head import Head

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_LEFT_OUT = frozenset(
    {
        *("content-length", "content-type", "transfer-encoding", "expect", "proxy"),
        *("authorization", "x-api-key"),
    }
)


@dataclass(frozen=True)
class Peer:
    """Both ends of a connection, as address and port."""

    caller: tuple[str, int]
    server: tuple[str, int]


@dataclass(frozen=True)
class Call:
    """One whole request; `read` is when its last byte came, on the monotonic clock."""

    head: Head
    body: bytes
    request_id: str
    deadline: Deadline
    read: float
    peer: Peer
    caller: Caller
    count_pictures: Callable[[int], object]
    cancelled: Cancellation = field(default_factory=Cancellation)


def environ_of(call: Call, now: float, *, draining: bool) -> dict[str, Any]:
    """The environ for a call that a thread takes up now."""
    return {
        **_request_keys(call),
        **_headers(call.head),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(call.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "tensorgate.deadline": call.deadline,
        "tensorgate.request_id": call.request_id,
        "tensorgate.queue_seconds": now - call.read,
        "tensorgate.cancelled": call.cancelled,
        "tensorgate.draining": draining,
        "tensorgate.caller": call.caller,
        "tensorgate.count_pictures": call.count_pictures,
    }


def _request_keys(call: Call) -> dict[str, str]:
    head = call.head
    return {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": head.path,
        "QUERY_STRING": head.query,
        "SERVER_NAME": call.peer.server[0],
        "SERVER_PORT": str(call.peer.server[1]),
        "SERVER_PROTOCOL": f"HTTP/{head.version[0]}.{head.version[1]}",
        "REMOTE_ADDR": call.caller.address,
        "REMOTE_PORT": str(call.peer.caller[1]),
        "CONTENT_LENGTH": str(len(call.body)),
        "CONTENT_TYPE": head.header("content-type"),
    }


def _headers(head: Head) -> dict[str, str]:
    """The header fields as HTTP_*.

    Names with an underscore are left out, as they would look like those with a hyphen, and so is
    Proxy, which would look like the variable HTTP_PROXY. API keys go no further than the server.
    """
    keys: dict[str, str] = {}
    for name, value in head.headers:
        if name not in _LEFT_OUT and "_" not in name:
            key = "HTTP_" + name.upper().replace("-", "_")
            keys[key] = f"{keys[key]},{value}" if key in keys else value
    return keys


def run(application: Application, environ: dict[str, Any]) -> Answer:
    """Call the application and collect its whole answer.

    Raises:
        ValueError: the answer would not be one HTTP message.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []
    body: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], None]:
        started[:] = [(status, headers)]
        return body.append

    chunks = application(environ, start_response)
    try:
        body.extend(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    status, headers = started[0]
    if any(control in part for pair in headers for part in pair for control in "\r\n\0"):
        raise ValueError("a header field of the answer holds a control character")
    return Answer(int(status[:3]), tuple(headers), b"".join(body))
