"""The egress proxy: every fetch goes through it, to the judged address and never by name."""

import base64
from pathlib import Path

import pytest

from gateway.errors import EgressUnavailable, GatewayError, OriginTimeout, URLNotAllowed
from gateway.settings import InvalidSetting, Settings
from tests.support.certificates import NAME, serving, trusting
from tests.support.egress_proxy import ESTABLISHED, saying, tunnel
from tests.support.fetching import fetch, fetching, refusal
from tests.support.hostile_origin import (
    PICTURE,
    HostileOrigin,
    Script,
    Visit,
    after_request,
    answer,
    redirect,
    response,
)
from tests.support.zone_server import ZoneServer, addresses


def test_a_tunnel_leads_to_the_judged_address_for_http_and_https_alike() -> None:
    """The proxy hears an address, the host its name; a kept tunnel is used again."""
    with (
        ZoneServer({NAME: [addresses("127.0.0.1")]}) as names,
        HostileOrigin(answer(response())) as plain,
        HostileOrigin(answer(response()), serving()) as secured,
        HostileOrigin(tunnel) as proxy,
        fetching(
            plain,
            secured,
            names=names,
            tls=trusting(),
            EGRESS_PROXY=f"127.0.0.1:{proxy.port}",
        ) as fetcher,
    ):
        for _ in range(2):
            assert fetch(fetcher, f"http://{NAME}:{plain.port}/a.jpg?b") == PICTURE
            assert fetch(fetcher, f"https://{NAME}:{secured.port}/") == PICTURE
    assert [request.split(b"\r\n")[:2] for request in proxy.requests] == [
        [
            f"CONNECT 127.0.0.1:{host.port} HTTP/1.1".encode(),
            f"Host: 127.0.0.1:{host.port}".encode(),
        ]
        for host in (plain, secured)
    ]
    assert all(b"Authorization" not in request for request in proxy.requests)
    assert plain.requests[0].startswith(f"GET /a.jpg?b HTTP/1.1\r\nHost: {NAME}:".encode())
    assert b"Proxy" not in plain.requests[0] + secured.requests[0]


def test_a_redirect_goes_through_the_proxy_too() -> None:
    with (
        HostileOrigin(answer(response())) as second,
        HostileOrigin(answer(redirect(f"http://127.0.0.1:{second.port}/"))) as first,
        HostileOrigin(tunnel) as proxy,
        fetching(first, second, EGRESS_PROXY=f"localhost:{proxy.port}") as fetcher,
    ):
        assert fetch(fetcher, first.url) == PICTURE
        assert proxy.connections == 2


def test_credentials_are_for_the_proxy_alone(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("gateway:secret:word\n")
    with (
        HostileOrigin(answer(response())) as origin,
        HostileOrigin(tunnel) as proxy,
        fetching(
            origin,
            EGRESS_PROXY=f"127.0.0.1:{proxy.port}",
            EGRESS_PROXY_CREDENTIALS_FILE=str(path),
        ) as fetcher,
    ):
        assert fetch(fetcher, origin.url) == PICTURE
    encoded = base64.b64encode(b"gateway:secret:word")
    assert b"\r\nProxy-Authorization: Basic " + encoded + b"\r\n" in proxy.requests[0]
    assert b"Authorization" not in origin.requests[0]


def test_what_is_not_allowed_never_reaches_the_proxy() -> None:
    with (
        HostileOrigin(tunnel) as proxy,
        fetching(EGRESS_PROXY=f"127.0.0.1:{proxy.port}") as fetcher,
    ):
        for url in ("http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/"):
            assert isinstance(refusal(fetcher, url), URLNotAllowed)
        assert proxy.connections == 0


def status(line: str) -> Script:
    """An answer of that status, with a header and a body that nobody may be told."""
    return saying(f"HTTP/1.1 {line}\r\nX: canary\r\nContent-Length: 6\r\n\r\ncanary".encode())


PROXIES: dict[str, tuple[Script, type[GatewayError]]] = {
    "refuses the address": (status("403 Forbidden"), URLNotAllowed),
    "cannot connect": (status("502 Bad Gateway"), URLNotAllowed),
    "finds nobody there": (status("503 Service Unavailable"), URLNotAllowed),
    "connects too slowly": (status("504 Gateway Timeout"), URLNotAllowed),
    "knows no CONNECT": (status("405 Method Not Allowed"), URLNotAllowed),
    "leads elsewhere": (status("302 Found"), URLNotAllowed),
    "wants credentials": (status("407 Proxy Authentication Required"), EgressUnavailable),
    "is no proxy": (saying(b"SSH-2.0-canary\r\n\r\n"), EgressUnavailable),
    "hangs up": (after_request(lambda visit: visit.send(b"")), EgressUnavailable),
    "resets": (after_request(Visit.reset), EgressUnavailable),
    "says more than asked": (saying(ESTABLISHED + b"canary"), EgressUnavailable),
    "switches protocols": (status("101 Switching Protocols"), EgressUnavailable),
    "floods": (
        after_request(lambda visit: visit.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 99)),
        EgressUnavailable,
    ),
}


@pytest.mark.parametrize(("script", "expected"), PROXIES.values(), ids=PROXIES)
def test_what_a_proxy_refuses_reads_like_any_other_url_and_its_failures_are_ours(
    script: Script, expected: type[GatewayError]
) -> None:
    with (
        HostileOrigin(answer(response())) as origin,
        HostileOrigin(script) as proxy,
        fetching(origin, EGRESS_PROXY=f"127.0.0.1:{proxy.port}") as fetcher,
    ):
        error = refusal(fetcher, origin.url)
        blocked = refusal(fetcher, "http://10.0.0.1/")
        assert proxy.gone.acquire(timeout=10), "the connection is still open"
    assert type(error) is expected
    assert (error.message == blocked.message) is (expected is URLNotAllowed)
    assert "canary" not in error.message
    assert error.log_detail
    assert origin.connections == 0


def test_a_silent_proxy_reads_like_a_host_that_never_lets_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.scoring.fetch.transport.CONNECT_TIMEOUT", 0.3)
    with (
        HostileOrigin(answer(response())) as origin,
        HostileOrigin(Visit.wait_until_gone) as proxy,
        fetching(origin, EGRESS_PROXY=f"127.0.0.1:{proxy.port}") as fetcher,
    ):
        error = refusal(fetcher, origin.url)
        assert proxy.gone.acquire(timeout=10), "the connection is still open"
    assert type(error) is URLNotAllowed
    assert "no tunnel in time" in error.log_detail


def test_a_slow_host_behind_the_proxy_is_cut() -> None:
    with (
        HostileOrigin(Visit.wait_until_gone) as origin,
        HostileOrigin(tunnel) as proxy,
        fetching(origin, EGRESS_PROXY=f"127.0.0.1:{proxy.port}", FETCH_TIMEOUT="0.5") as fetcher,
    ):
        assert type(refusal(fetcher, origin.url)) is OriginTimeout
        assert origin.gone.acquire(timeout=10), "the connection is still open"


@pytest.mark.parametrize("proxy", ["127.0.0.1:{closed}", "nobody.invalid:3128"])
def test_a_proxy_that_is_not_there_is_the_gateways_own_failure(proxy: str) -> None:
    with HostileOrigin(answer(response())) as closed:
        pass
    with (
        HostileOrigin(answer(response())) as origin,
        fetching(origin, EGRESS_PROXY=proxy.format(closed=closed.port)) as fetcher,
    ):
        error = refusal(fetcher, origin.url)
        assert isinstance(refusal(fetcher, "http://10.0.0.1/"), URLNotAllowed)
    assert type(error) is EgressUnavailable
    assert "127.0.0.1" not in error.message
    assert origin.connections == 0


def test_the_environments_proxies_are_not_asked_even_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        HostileOrigin(answer(response())) as origin,
        HostileOrigin(tunnel) as proxy,
        HostileOrigin(tunnel) as other,
    ):
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{other.port}")
        with fetching(origin, EGRESS_PROXY=f"127.0.0.1:{proxy.port}") as fetcher:
            assert fetch(fetcher, origin.url) == PICTURE
    assert (proxy.connections, other.connections) == (1, 0)


@pytest.mark.parametrize("text", ["", "user\n", ":word\n", "user:\n", "a:b\nc:d\n", "a b:c\n"])
def test_credentials_that_cannot_be_meant_stop_the_start(text: str, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(text)
    with pytest.raises(InvalidSetting, match="EGRESS_PROXY_CREDENTIALS_FILE"):
        Settings.from_environment({"EGRESS_PROXY_CREDENTIALS_FILE": str(path)})
