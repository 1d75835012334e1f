"""Redirects: followed by the gateway itself, each hop parsed and judged like the first."""

import time

import pytest

from gateway.errors import OriginFailed, URLNotAllowed
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


def by_path(answers: dict[str, bytes]) -> Script:
    """A script that answers by the request's target."""

    def script(visit: Visit) -> None:
        while request := visit.read_request():
            visit.send(answers[request.split(b" ")[1].decode()])

    return script


def chain(hops: int) -> Script:
    """A script that leads through so many redirects to the picture."""
    answers = {f"/{hop}": redirect(f"/{hop + 1}") for hop in range(hops)}
    return by_path({**answers, f"/{hops}": response()})


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
def test_a_redirect_leads_to_the_picture(status: str) -> None:
    script = by_path({"/old": redirect("/new", status), "/new": response()})
    with HostileOrigin(script) as origin, fetching(origin) as fetcher:
        assert fetch(fetcher, f"http://127.0.0.1:{origin.port}/old") == PICTURE


@pytest.mark.case("A32")
def test_three_redirects_are_followed_and_a_fourth_is_not() -> None:
    with HostileOrigin(chain(3)) as origin, fetching(origin) as fetcher:
        assert fetch(fetcher, f"http://127.0.0.1:{origin.port}/0") == PICTURE
    with HostileOrigin(chain(4)) as origin, fetching(origin) as fetcher:
        error = refusal(fetcher, f"http://127.0.0.1:{origin.port}/0")
    assert isinstance(error, URLNotAllowed)
    assert error.message == "The picture's host redirects more than 3 times."
    assert len(origin.requests) == 4


@pytest.mark.case("A32")
def test_a_redirect_to_itself_ends() -> None:
    with HostileOrigin(answer(redirect("/picture.jpg"))) as origin, fetching(origin) as fetcher:
        assert isinstance(refusal(fetcher, origin.url), URLNotAllowed)


def test_a_redirect_leads_to_another_allowed_host() -> None:
    with (
        HostileOrigin(answer(response())) as second,
        HostileOrigin(answer(redirect(f"//127.0.0.1:{second.port}/x"))) as first,
        fetching(first, second) as fetcher,
    ):
        assert fetch(fetcher, first.url) == PICTURE
        assert b"Referer" not in second.requests[0]


LEADING_ASTRAY = {
    "to the canary": "http://127.0.0.1:{canary}/",
    "to the canary without a scheme": "//127.0.0.1:{canary}/",
    "to the canary by IPv6": "http://[::ffff:127.0.0.1]:{canary}/",
    "to the canary as an integer": "http://2130706433:{canary}/",
    "with a user": "http://user@127.0.0.1:{origin}/",
    "with a backslash": "http://127.0.0.1:{canary}\\@127.0.0.1:{origin}/",
    "to a file": "file:///etc/passwd",
    "to gopher": "gopher://127.0.0.1:{canary}/",
    "to another port": "http://example.com:22/",
    "to metadata": "http://169.254.169.254/latest/meta-data/",
    "to a private network": "http://10.0.0.1/",
    "to an unspecified address": "http://0.0.0.0/",
    "with white space": "http://127.0.0.1:{origin}/a b",
    "to a broken bracket": "//[::1",
}


@pytest.mark.case("A32")
@pytest.mark.parametrize("location", LEADING_ASTRAY.values(), ids=LEADING_ASTRAY)
def test_a_redirect_astray_is_refused_and_nothing_is_sent_there(location: str) -> None:
    with HostileOrigin(answer(response())) as canary:

        def astray(visit: Visit) -> None:
            visit.read_request()
            where = location.format(canary=canary.port, origin=visit.origin.port)
            visit.send(redirect(where))

        with HostileOrigin(astray) as origin, fetching(origin) as fetcher:
            error = refusal(fetcher, origin.url)
    assert isinstance(error, URLNotAllowed)
    assert canary.connections == 0
    assert len(origin.requests) == 1


@pytest.mark.case("A32")
@pytest.mark.parametrize(
    "data",
    [
        response(b"", status="302 Found"),
        response(b"", status="302 Found", fields=("Location: /a", "Location: /b")),
        response(b"", status="302 Found", fields=("Location: /a", "Location: /a")),
        response(b"", status="302 Found", fields=("Location: /\xff",)),
    ],
)
def test_a_redirect_without_one_readable_location_is_a_failed_host(data: bytes) -> None:
    with HostileOrigin(answer(data)) as origin, fetching(origin) as fetcher:
        error = refusal(fetcher, origin.url)
    assert isinstance(error, OriginFailed)
    assert error.origin_status == 302


def test_a_refused_redirect_is_known_no_sooner_than_the_floor_after_it() -> None:
    """However long the host took to lead there."""
    led: list[float] = []

    def slow(visit: Visit) -> None:
        visit.read_request()
        visit.origin.stopping.wait(0.1)
        led.append(time.monotonic())
        visit.send(redirect("http://10.1.2.3/"))

    with HostileOrigin(slow) as origin, fetching(origin) as fetcher:
        assert isinstance(refusal(fetcher, origin.url), URLNotAllowed)
        assert time.monotonic() - led[0] >= 0.05


def test_a_refused_redirect_tells_the_log_and_not_the_caller_why() -> None:
    with (
        HostileOrigin(answer(redirect("http://10.1.2.3/secret"))) as origin,
        fetching(origin) as fetcher,
    ):
        error = refusal(fetcher, origin.url)
    assert "10.1.2.3" not in error.message
    assert "10.1.2.3" in error.log_detail


@pytest.mark.case("A29")
def test_a_url_that_leads_back_to_the_gateway_is_not_allowed() -> None:
    """A host says so with 508; the gateway does where its own token comes back."""
    with (
        HostileOrigin(answer(response(b"", status="508 Loop Detected"))) as origin,
        fetching(origin, LOOP_TOKEN="our-own-word") as fetcher,  # noqa: S106
    ):
        error = refusal(fetcher, origin.url)
    assert isinstance(error, URLNotAllowed)
    assert error.message == "The URL leads back to the gateway that would fetch it."
    assert b"\r\nCDN-Loop: our-own-word\r\n" in origin.requests[0]
