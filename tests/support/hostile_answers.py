"""What hostile hosts of pictures do, by the case of the list that it shows."""

import gzip

from gateway.errors import GatewayError, ImageTooLarge, OriginFailed, OriginTimeout
from tests.support.hostile_origin import (
    PICTURE,
    Script,
    Visit,
    after_request,
    answer_once,
    response,
)

SECRET = "X-Canary: secret-of-the-origin"
HEAD = f"HTTP/1.1 200 OK\r\n{SECRET}\r\n".encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LIMIT = 20_000
DRIP = 0.02


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def head_then(act: str, head: bytes, body: bytes = b"x") -> Script:
    """A script that sends a head and then drips, floods, resets or says nothing more."""

    def then(visit: Visit) -> None:
        visit.send(head)
        {
            "drip": lambda: visit.drip(body, DRIP),
            "flood": lambda: visit.flood(body),
            "reset": visit.reset,
            "silence": visit.wait_until_gone,
        }[act]()

    return after_request(then)


def length(value: str) -> Script:
    return answer_once(HEAD + f"Content-Length: {value}\r\n\r\n".encode() + PICTURE)


def coded(*codings: str) -> Script:
    fields = (SECRET, *(f"Content-Encoding: {coding}" for coding in codings))
    return answer_once(response(fields=fields))


TOO_SLOW = {
    "B1 header lines drip": head_then("drip", HEAD, b"X-Slow: y\r\n"),
    "B1 one header line drips": head_then("drip", HEAD),
    "B1 the status line drips": head_then("drip", b"", b"HTTP/1.1 "),
    "B2 the body drips": head_then("drip", HEAD + b"Content-Length: 10000\r\n\r\n"),
    "B2 a body without a length drips": head_then("drip", HEAD + b"\r\n"),
    "B2 chunks drip": head_then("drip", CHUNKED, b"1\r\nx\r\n"),
    "B9 a trailer drips": head_then("drip", CHUNKED + b"0\r\n", b"X: y\r\n"),
    "B3 silence after the request": head_then("silence", b""),
    "B3 silence before it": lambda visit: visit.wait_until_gone(),
    "B3 silence after the head": head_then("silence", HEAD + b"Content-Length: 9\r\n\r\n"),
    "B11 interim answers drip": head_then("drip", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}
TOO_LARGE = {
    "B4 endless without a length": head_then("flood", HEAD + b"\r\n", PICTURE),
    "B4 endless chunks": head_then("flood", CHUNKED, chunk(PICTURE)),
    "B4 endless small chunks": head_then("flood", CHUNKED, chunk(b"x" * 256) * 100),
    "B5 a length over the limit, and no body": head_then(
        "silence", HEAD + f"Content-Length: {LIMIT + 1}\r\n\r\n".encode()
    ),
    "B5 a huge length": length("999999999999999999"),
    "B9 a chunk over the limit, and no body": head_then("silence", CHUNKED + b"ffffffff\r\n"),
}
BROKEN = {
    "B6 cut off": answer_once(response(length=len(PICTURE) + 1)),
    "B6 cut off at once": answer_once(response(b"", length=1)),
    "B7 negative length": length("-1"),
    "B7 length with a sign": length("+5"),
    "B7 hexadecimal length": length("0x10"),
    "B7 empty length": length(""),
    "B7 list of lengths": length("5, 5"),
    "B7 length with white space inside": length("1 0"),
    "B7 length of 19 digits": length("1" * 19),
    "B7 two lengths": answer_once(response(fields=("Content-Length: 10240", SECRET), length=10241)),
    "B7 the same length twice": answer_once(response(fields=(f"Content-Length: {len(PICTURE)}",))),
    "B8 gzip": coded("gzip"),
    "B8 a gzip bomb": answer_once(
        response(gzip.compress(bytes(20_000_000)), fields=("Content-Encoding: gzip",))
    ),
    "B8 deflate": coded("deflate"),
    "B8 brotli": coded("br"),
    "B8 zstd": coded("zstd"),
    "B8 gzip fifty times": coded(", ".join(["gzip"] * 50)),
    "B8 identity and gzip": coded("identity", "gzip"),
    "B8 unknown coding": coded("secret-of-the-origin"),
    "B9 chunk size no number": answer_once(CHUNKED + b"zz\r\n"),
    "B9 chunk size negative": answer_once(CHUNKED + b"-1\r\n"),
    "B9 chunk size with 0x": answer_once(CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"),
    "B9 chunk size with underscore": answer_once(CHUNKED + b"1_0\r\n" + b"x" * 16 + b"\r\n"),
    "B9 chunk size empty": answer_once(CHUNKED + b"\r\n"),
    "B9 chunk size of 16 digits": answer_once(CHUNKED + b"f" * 16 + b"\r\n"),
    "B9 chunk size before a bare LF": answer_once(CHUNKED + b"5\nhello\n0\n\n" + b" " * 300),
    "B9 huge extension": head_then("flood", CHUNKED + b"5;", b"x" * 10_000),
    "B9 endless chunks of one byte": head_then("flood", CHUNKED, chunk(b"x") * 1000),
    "B9 chunk longer than its size": answer_once(CHUNKED + b"3\r\nhello\r\n0\r\n\r\n"),
    "B9 cut off in a chunk": answer_once(CHUNKED + b"5\r\nhel"),
    "B9 cut off between chunks": answer_once(CHUNKED + chunk(PICTURE)),
    "B9 cut off in the trailer": answer_once(CHUNKED + chunk(PICTURE) + b"0\r\n"),
    "B9 endless trailer": head_then("flood", CHUNKED + b"0\r\n", b"X: y\r\n" * 1000),
    "B9 chunked and a length": answer_once(
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ),
    "B9 gzip, chunked": answer_once(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "B9 identity": answer_once(HEAD + b"Transfer-Encoding: identity\r\n\r\nhello"),
    "B9 chunked twice": answer_once(
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "B9 chunked in HTTP/1.0": answer_once(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "B10 a header line of 100 KiB": answer_once(
        HEAD + b"X: " + b"y" * 100 * 1024 + b"\r\nContent-Length: 0\r\n\r\n"
    ),
    "B10 10,000 header lines": answer_once(HEAD + b"X: y\r\n" * 10_000 + b"\r\n"),
    "B10 101 short header lines": answer_once(HEAD + b"X: y\r\n" * 100 + b"\r\n"),
    "B10 an endless header": head_then("flood", HEAD, b"y" * 10_000),
    "B10 a header without a colon": answer_once(HEAD + b"secret-of-the-origin\r\n\r\n"),
    "B10 a header without a name": answer_once(HEAD + b": y\r\n\r\n"),
    "B10 a space before the colon": answer_once(HEAD + b"Content-Length : 5\r\n\r\nhello"),
    "B10 a folded header": answer_once(HEAD + b"X: y\r\n z\r\n\r\n"),
    "B10 a NUL in a header": answer_once(HEAD + b"X: y\0\r\n\r\n"),
    "B10 a bare CR in a header": answer_once(HEAD + b"X: y\rContent-Length: 5\r\n\r\nhello"),
    "B10 a bare LF in a header": answer_once(HEAD + b"X: y\nContent-Length: 5\r\n\r\nhello"),
    "B10 bare LFs alone": answer_once(b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    "B11 endless interim answers": head_then("flood", b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
    "B11 endless early hints": head_then("flood", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 99),
    "B11 another protocol": answer_once(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + response()),
    "B14 HTTP/0.9": answer_once(PICTURE),
    "B14 HTTP/0.9, a page": answer_once(b"<html>secret-of-the-origin</html>\r\n\r\n"),
    "B14 HTTP/2 preface": answer_once(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "B14 HTTP/2 frames": answer_once(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64" * 9),
    "B14 HTTP/2 in the status line": answer_once(b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n"),
    "B14 another protocol's banner": answer_once(b"SSH-2.0-secret-of-the-origin\r\n"),
    "B14 a status of two digits": answer_once(b"HTTP/1.1 20 OK\r\n\r\n"),
    "B14 a status of four digits": answer_once(b"HTTP/1.1 2000 OK\r\n\r\n"),
    "B14 status 600": answer_once(b"HTTP/1.1 600 OK\r\n\r\n"),
    "B14 an empty line first": answer_once(b"\r\n" + response()),
    "B14 two spaces": answer_once(b"HTTP/1.1  200 OK\r\n\r\n"),
    "B14 lower case": answer_once(b"http/1.1 200 OK\r\n\r\n"),
    "B16 reset before the answer": after_request(Visit.reset),
    "B16 reset in the head": head_then("reset", HEAD),
    "B16 reset in the body": head_then("reset", HEAD + b"Content-Length: 10\r\n\r\nhello"),
    "B16 closed before the request": lambda visit: visit.send(b""),
    "B16 closed before the answer": answer_once(b""),
    "B16 closed in the head": answer_once(HEAD),
}
CASES: dict[str, tuple[Script, type[GatewayError]]] = {
    **{case: (script, OriginTimeout) for case, script in TOO_SLOW.items()},
    **{case: (script, ImageTooLarge) for case, script in TOO_LARGE.items()},
    **{case: (script, OriginFailed) for case, script in BROKEN.items()},
}
STATUSES = {
    "B12 204": 204,
    "B12 206": 206,
    "B12 304": 304,
    "B12 416": 416,
    **{
        f"B17 {status}": status
        for status in (300, 305, 400, 401, 403, 404, 410, 429, 500, 502, 503, 599)
    },
}
"""Statuses that are no picture; each answer has a body all the same."""
POISON = response(b"poison")
POISONED = {
    "B19 a second answer": response() + POISON,
    "B6 more than its length": response(length=len(PICTURE) - 1),
    "B19 a second answer after chunks": CHUNKED + chunk(PICTURE) + b"0\r\n\r\n" + POISON,
    "B19 an empty line": response() + b"\r\n",
}
"""Answers with something behind them that must never serve the next request."""
