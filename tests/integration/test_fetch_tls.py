"""TLS: the certificate is checked for the name in the URL, and a handshake obeys the clock."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.errors import GatewayError, OriginFailed, OriginTimeout, URLNotAllowed
from gateway.scoring.fetch import Fetcher
from tests.support.cases import rows
from tests.support.certificates import NAME, TRUSTED, serving, trusting
from tests.support.fetching import fetch, fetching, refusal
from tests.support.hostile_origin import (
    PICTURE,
    HostileOrigin,
    Script,
    Visit,
    answer,
    redirect,
    response,
)
from tests.support.hostile_tls import (
    BAD_CERTIFICATE,
    NO_TLS,
    SLOW_TLS,
    TLS_FAILED,
    UNPROVEN,
    Context,
    demanding_a_client_certificate,
)
from tests.support.zone_server import ZoneServer, addresses

NAMES = {name: [addresses("127.0.0.1")] for name in (NAME, "b.test", "sub.wild.test")}


@contextmanager
def fetching_securely(
    script: Script, context: ssl.SSLContext | None, *others: HostileOrigin, **settings: str
) -> Iterator[tuple[HostileOrigin, Fetcher]]:
    """A host that speaks TLS, and a fetcher that trusts the tests' authority."""
    with (
        ZoneServer(NAMES) as names,
        HostileOrigin(script, context) as origin,
        fetching(origin, *others, names=names, tls=trusting(), **settings) as fetcher,
    ):
        yield origin, fetcher


def test_a_picture_is_fetched_from_the_name_that_the_certificate_proves() -> None:
    """The name goes out in SNI and Host, and the connection is used again."""
    context = serving()
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with fetching_securely(answer(response()), context) as (origin, fetcher):
        for _ in range(3):
            assert fetch(fetcher, f"https://{NAME}:{origin.port}/") == PICTURE
    assert asked == [NAME]
    assert origin.connections == 1
    assert f"Host: {NAME}:{origin.port}".encode() in origin.requests[0]


@pytest.mark.parametrize(
    ("identity", "host"),
    [("127.0.0.1", "127.0.0.1"), ("*.wild.test", "sub.wild.test"), ("b.test", "b.test")],
)
def test_an_address_or_a_wildcard_in_the_certificate_proves_it_too(
    identity: str, host: str
) -> None:
    with fetching_securely(answer(response()), serving(identity)) as (origin, fetcher):
        assert fetch(fetcher, f"https://{host}:{origin.port}/") == PICTURE


@pytest.mark.parametrize("context", rows(UNPROVEN))
def test_a_certificate_that_proves_nothing_is_refused_before_the_request(
    context: Context,
) -> None:
    with fetching_securely(answer(response()), context()) as (origin, fetcher):
        error = refusal(fetcher, f"https://{NAME}:{origin.port}/secret")
        assert isinstance(error, OriginFailed)
        assert error.message == BAD_CERTIFICATE
        assert error.log_detail
        assert not origin.requests


@pytest.mark.parametrize(("script", "context"), rows(NO_TLS))
def test_a_host_that_fails_at_tls_is_a_failed_host(script: Script, context: Context) -> None:
    with fetching_securely(script, context()) as (origin, fetcher):
        error = refusal(fetcher, f"https://{NAME}:{origin.port}/")
    assert isinstance(error, OriginFailed)
    assert error.message == TLS_FAILED


@pytest.mark.case("B15")
def test_a_host_that_demands_a_client_certificate_is_a_failed_host() -> None:
    with fetching_securely(answer(response()), demanding_a_client_certificate()) as (
        origin,
        fetcher,
    ):
        assert isinstance(refusal(fetcher, f"https://{NAME}:{origin.port}/"), OriginFailed)


@pytest.mark.parametrize(("script", "context"), rows(SLOW_TLS))
def test_a_slow_host_is_cut_in_tls_too(script: Script, context: Context) -> None:
    with fetching_securely(script, context(), FETCH_TIMEOUT="2") as (origin, fetcher):
        error = refusal(fetcher, f"https://{NAME}:{origin.port}/")
        assert type(error) is OriginTimeout
        assert origin.gone.acquire(timeout=10), "the connection is still open"


def cut_off(visit: Visit) -> None:
    """End the stream without TLS's own goodbye."""
    visit.read_request()
    visit.send(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE)
    visit.socket.close()


def end_properly(visit: Visit) -> None:
    visit.read_request()
    visit.send(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE)


def test_a_body_that_ends_with_the_stream_is_whole_only_if_tls_says_so() -> None:
    with fetching_securely(end_properly, serving()) as (origin, fetcher):
        assert fetch(fetcher, f"https://{NAME}:{origin.port}/") == PICTURE
    with fetching_securely(cut_off, serving()) as (origin, fetcher):
        error: GatewayError = refusal(fetcher, f"https://{NAME}:{origin.port}/")
    assert isinstance(error, OriginFailed)


def test_a_large_picture_comes_through_tls_whole() -> None:
    body = PICTURE * 300
    with fetching_securely(answer(response(body)), serving()) as (origin, fetcher):
        assert fetch(fetcher, f"https://{NAME}:{origin.port}/") == body
        assert fetch(fetcher, f"https://{NAME}:{origin.port}/") == body
        assert origin.connections == 1


def test_poison_in_tls_never_serves_the_next() -> None:
    data = response() + response(b"poison")
    with fetching_securely(answer(data), serving()) as (origin, fetcher):
        for _ in range(2):
            assert fetch(fetcher, f"https://{NAME}:{origin.port}/") == PICTURE
        assert origin.connections == 2


def test_https_is_never_left_for_http_and_may_be_taken_up() -> None:
    with HostileOrigin(answer(response())) as plain:
        down = redirect(f"http://127.0.0.1:{plain.port}/")
        with fetching_securely(answer(down), serving(), plain) as (origin, fetcher):
            error = refusal(fetcher, f"https://{NAME}:{origin.port}/")
    assert isinstance(error, URLNotAllowed)
    assert error.message == "The picture's host redirects from https to http."
    assert plain.connections == 0


def test_http_may_lead_to_https() -> None:
    secure_port: list[int] = []

    def up(visit: Visit) -> None:
        visit.read_request()
        visit.send(redirect(f"https://{NAME}:{secure_port[0]}/"))

    with (
        HostileOrigin(up) as plain,
        fetching_securely(answer(response()), serving(), plain) as (origin, fetcher),
    ):
        secure_port.append(origin.port)
        assert fetch(fetcher, plain.url) == PICTURE


def test_the_system_s_certificates_are_trusted_and_ssl_cert_file_names_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetcher made without a context of its own."""
    with (
        HostileOrigin(answer(response()), serving("127.0.0.1")) as origin,
        fetching(origin) as fetcher,
    ):
        assert isinstance(refusal(fetcher, f"https://127.0.0.1:{origin.port}/"), OriginFailed)
        authority = tmp_path / "authority.pem"
        TRUSTED.cert_pem.write_to_path(str(authority))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        with fetching(origin) as believing:
            assert fetch(believing, f"https://127.0.0.1:{origin.port}/") == PICTURE
