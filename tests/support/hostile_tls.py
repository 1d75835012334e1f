"""How hosts of pictures break TLS, by the case of the list that it shows."""

import ssl
import warnings
from collections.abc import Callable

import trustme

from tests.support.certificates import TRUSTED, serving, weakly_serving
from tests.support.hostile_origin import Script, Visit, after_request, answer, response

Context = Callable[[], ssl.SSLContext | None]
BAD_CERTIFICATE = "The certificate of the picture's host does not prove that it is that host."
TLS_FAILED = "The picture's host failed to open a TLS connection."


def old_version() -> ssl.SSLContext:
    context = serving()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def without_encryption() -> ssl.SSLContext:
    context = serving()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("NULL:aNULL:@SECLEVEL=0")
    return context


def demanding_a_client_certificate() -> ssl.SSLContext:
    context = serving()
    context.verify_mode = ssl.CERT_REQUIRED
    TRUSTED.configure_trust(context)
    return context


def unknown_name() -> ssl.SSLContext:
    context = serving()
    alert = ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    context.sni_callback = lambda _socket, _name, _context: alert
    return context


def another_host_by_name() -> ssl.SSLContext:
    """The certificate would do, but the name that is asked for gets another's."""
    context, other = serving(), serving("b.test")

    def choose(chosen: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        chosen.context = other

    context.sni_callback = choose
    return context


def say(data: bytes) -> Script:
    """A script that answers the first bytes, whatever they are."""

    def script(visit: Visit) -> None:
        visit.socket.recv(65536)
        visit.send(data)

    return script


def reset_in_the_handshake(visit: Visit) -> None:
    visit.socket.recv(65536)
    visit.reset()


NO_TLS: dict[str, tuple[Script, Context]] = {
    "B15 TLS 1.0 and 1.1": (answer(response()), old_version),
    "B15 no encryption": (answer(response()), without_encryption),
    "B15 a name that it does not know": (answer(response()), unknown_name),
    "B15 plain HTTP": (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), lambda: None),
    "B15 an alert": (say(b"\x15\x03\x03\x00\x02\x02\x28"), lambda: None),
    "B15 closed in the handshake": (say(b""), lambda: None),
    "B15 cut off in the handshake": (say(b"\x16\x03\x03\x00\x7a\x02"), lambda: None),
    "B15 noise": (say(bytes(range(256))), lambda: None),
    "B15 reset in the handshake": (reset_in_the_handshake, lambda: None),
}


def drip_handshake(visit: Visit) -> None:
    visit.socket.recv(65536)
    visit.send(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03")
    visit.drip(b"x", 0.02)


SLOW_TLS: dict[str, tuple[Script, Context]] = {
    "B15 silence in the handshake": (Visit.wait_until_gone, lambda: None),
    "B15 the handshake drips": (drip_handshake, lambda: None),
    "B2 the body drips": (
        after_request(lambda visit: visit.drip(b"HTTP/1.1 200 OK\r\nX: ", 0.02)),
        serving,
    ),
    "B3 silence after the request": (after_request(Visit.wait_until_gone), serving),
}
UNPROVEN: dict[str, Context] = {
    "B15 expired": lambda: serving(expired=True),
    "B15 wrong host": lambda: serving("b.test"),
    "B15 the address and not the name": lambda: serving("127.0.0.1"),
    "B15 unknown authority": lambda: serving(authority=trustme.CA()),
    "B15 wildcard of another level": lambda: serving("*.pictures.test"),
    "B15 signed with SHA-1": lambda: weakly_serving(digest="sha1"),
    "B15 a key of 1024 bits": lambda: weakly_serving(key_bits=1024),
    "B15 SNI answered with another host's": another_host_by_name,
}
