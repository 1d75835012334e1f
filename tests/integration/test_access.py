"""Who may call, over sockets to real processes: keys, limits, proxies, and what is told of it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import keys
from gateway.audit import LINES_A_SECOND
from tests.support import processes
from tests.support.server_process import (
    Caller,
    Response,
    ServerProcess,
    assert_problem,
    get,
    metric,
    post,
    running,
    wait_until,
)

SHOP, LAB = keys.new_key(), keys.new_key()
STRANGER = keys.new_key()
NOBODY_IS_THERE = ("127.0.0.1", 9)
PROTECTION = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def bearer(key: str) -> str:
    return f"Authorization: Bearer {key}"


def put(path: Path, *lines: str) -> None:
    """Replace a file of keys at one go."""
    new = path.with_name("new")
    new.write_text("\n".join(lines) + "\n")
    new.rename(path)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    put(path, keys.line_of("shop", SHOP), keys.line_of("lab", LAB))
    return path


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[ServerProcess]:
    settings = {"api_keys_file": file, "allowed_origins": "https://page.test"}
    with running(workers=1, threads=2, max_image_bytes=65536, **settings) as process:
        yield process


@pytest.fixture
def caller(server: ServerProcess) -> Iterator[Caller]:
    with Caller(server.address) as opened:
        yield opened


def ask(server: ServerProcess, request: bytes) -> Response:
    with Caller(server.address) as caller:
        return caller.ask(request)


def lines_of(server: ServerProcess, message: str, **fields: object) -> list[dict[str, object]]:
    """The lines of the log with that message and those fields."""
    return [
        line
        for line in tuple(server.lines)
        if line["message"] == message and fields.items() <= line.items()
    ]


def line_of(server: ServerProcess, message: str, **fields: object) -> dict[str, object]:
    """The one such line, once it is there."""
    wait_until(lambda: bool(lines_of(server, message, **fields)))
    (line,) = lines_of(server, message, **fields)
    return line


# --- keys


@pytest.mark.parametrize(
    "header", [bearer(SHOP), f"authorization: bearer {LAB}", f"X-API-Key: {LAB}"]
)
def test_a_key_opens_in_either_header(caller: Caller, header: str) -> None:
    answer = caller.ask(post("/predict", b"{}", header))

    assert answer.status == 200
    assert "tensorgate_" not in answer.body.decode()


NO_KEYS = {
    "no key": [],
    "an unknown key": [bearer(STRANGER)],
    "a name": [bearer("shop")],
    "the hash": [bearer(keys.digest_of(SHOP).hex())],
    "a key cut short": [bearer(SHOP[:-1])],
    "a key and more": [bearer(SHOP + "A")],
    "two keys": [bearer(SHOP), f"X-API-Key: {SHOP}"],
    "one key twice": [bearer(SHOP), bearer(SHOP)],
    "a list of keys": [bearer(f"{SHOP}, {SHOP}")],
    "Basic": ["Authorization: Basic c2hvcDpzaG9w"],
    "the key alone": [f"Authorization: {SHOP}"],
    "nothing behind Bearer": ["Authorization: Bearer"],
    "an underscore": [f"X_API_Key: {SHOP}"],
    "a cookie": [f"Cookie: key={SHOP}"],
    "a byte beyond ASCII": [bearer(SHOP[:-1] + "\xe9")],
}


@pytest.mark.parametrize("headers", NO_KEYS.values(), ids=NO_KEYS.keys())
def test_without_a_right_key_the_answer_is_401_and_says_how_to_show_one(
    caller: Caller, headers: list[str]
) -> None:
    request = "\r\n".join(["GET /models HTTP/1.1", "Host: gateway.test", *headers, "", ""])
    answer = caller.ask(request.encode("latin-1"))

    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="tensorgate"')
    shown = any(header.lower().startswith(("authorization", "x-api-key")) for header in headers)
    assert ('error="invalid_token"' in answer.headers["www-authenticate"]) == shown


@pytest.mark.parametrize("name", ["key", "api_key", "access_token"])
def test_a_key_in_the_address_opens_nothing(
    server: ServerProcess, caller: Caller, name: str
) -> None:
    answer = caller.ask(get(f"/predict?{name}={SHOP}"))

    assert_problem(answer, 401, "unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_key(caller: Caller, path: str) -> None:
    assert caller.ask(get(path)).status == 200
    assert caller.ask(get(path, bearer(STRANGER))).status == 200


@pytest.mark.parametrize(
    "path", ["/healthz/", "/healthz/../predict", "//healthz", "/healthz;x", "/HEALTHZ", "/nowhere"]
)
def test_no_other_path_is_taken_for_a_probe(caller: Caller, path: str) -> None:
    assert_problem(caller.ask(get(path)), 401, "unauthorized")


@pytest.mark.parametrize(
    "lines",
    [
        ["POST /healthz HTTP/1.1", "Content-Length: 0"],
        ["POST /healthz HTTP/1.1", "Content-Length: 60000"],
        ["GET /readyz HTTP/1.1", "Content-Length: 60000"],
        ["GET /readyz HTTP/1.1", "Transfer-Encoding: chunked"],
        ["OPTIONS /healthz HTTP/1.1"],
        [
            *("OPTIONS /predict HTTP/1.1", "Content-Length: 60000"),
            *("Origin: https://page.test", "Access-Control-Request-Method: POST"),
        ],
    ],
)
def test_nobody_is_read_a_body_of_without_a_key(caller: Caller, lines: list[str]) -> None:
    answer = caller.ask("\r\n".join([*lines, "Host: gateway.test", "", ""]).encode())

    assert_problem(answer, 401, "unauthorized")


def test_a_key_is_asked_for_before_the_body(caller: Caller) -> None:
    lines = ["POST /predict HTTP/1.1", "Host: gateway.test", "Content-Length: 60000"]
    lines += ["Content-Type: image/jpeg", "Expect: 100-continue", "", ""]
    answer = caller.ask("\r\n".join(lines).encode())

    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["connection"] == "close"


def test_a_key_is_asked_for_before_it_is_said_how_large_a_body_may_be(caller: Caller) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 999999999\r\n\r\n"

    assert_problem(caller.ask(head.encode()), 401, "unauthorized")


def test_each_request_of_a_connection_shows_its_own_key(caller: Caller) -> None:
    assert caller.ask(get("/models", bearer(SHOP))).status == 200
    assert caller.ask(get("/models")).status == 401
    assert caller.ask(get("/models", bearer(LAB))).status == 200


def test_a_page_may_ask_whether_it_may_call_and_reads_that_it_needs_a_key(caller: Caller) -> None:
    origin = "Origin: https://page.test"
    lines = ["OPTIONS /predict HTTP/1.1", "Host: gateway.test", origin]
    lines += ["Access-Control-Request-Method: POST", "", ""]
    preflight = caller.ask("\r\n".join(lines).encode())
    answer = caller.ask(get("/models", origin))
    options = ["OPTIONS /predict HTTP/1.1", "Host: gateway.test", origin, "", ""]

    assert preflight.status == 204
    assert "X-API-Key" in preflight.headers["access-control-allow-headers"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["access-control-allow-origin"] == "https://page.test"
    assert caller.ask("\r\n".join(options).encode()).status == 401


def test_the_log_names_the_key_and_no_line_holds_one(server: ServerProcess) -> None:
    for number, key in enumerate((SHOP, STRANGER)):
        path = f"/models/{key}?key={key}"
        ask(server, get(path, bearer(key), f"X-Request-ID: named-{number}"))
    opened = line_of(server, "request", request_id="named-0")
    refused = line_of(server, "request", request_id="named-1")

    assert (opened["key"], opened["status"]) == ("shop", 200)
    assert "key" not in refused
    for secret in (SHOP, LAB, STRANGER):
        assert secret.removeprefix("tensorgate_") not in json.dumps(server.lines)


def test_metrics_need_no_key(server: ServerProcess) -> None:
    before = metric(server, 'tensorgate_refused_total{reason="unauthorized"}')
    ask(server, get("/models"))
    assert metric(server, 'tensorgate_refused_total{reason="unauthorized"}') == before + 1


def opens(server: ServerProcess, key: str) -> set[int]:
    """What a key is answered on many connections, which all workers share."""
    callers = [Caller(server.address) for _ in range(12)]
    statuses = {caller.ask(get("/models", bearer(key))).status for caller in callers}
    for caller in callers:
        caller.close()
    return statuses


def test_keys_are_rotated_in_every_process_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    put(path, keys.line_of("shop", SHOP))
    with running(workers=2, threads=2, api_keys_file=path) as server:
        wait_until(lambda: len(probed(server)) == 2)
        assert opens(server, SHOP) == {200}
        put(path, keys.line_of("shop", SHOP), keys.line_of("lab", LAB))
        wait_until(lambda: processes_that_say(server, "API keys taken") == 3)
        assert (opens(server, SHOP), opens(server, LAB)) == ({200}, {200})

        put(path, f"lab {LAB}")
        broken = "API_KEYS_FILE is broken: the keys before it stay"
        wait_until(lambda: processes_that_say(server, broken) == 3)
        assert (opens(server, SHOP), opens(server, LAB)) == ({200}, {200})
        assert LAB not in json.dumps(server.lines)
        wait_until(lambda: metric(server, "tensorgate_api_keys_broken") == 1)

        seen = len(server.lines)
        put(path, keys.line_of("lab", LAB))
        wait_until(lambda: processes_that_say(server, "API keys taken", seen) == 3)
        assert (opens(server, SHOP), opens(server, LAB)) == ({401}, {200})
        wait_until(lambda: metric(server, "tensorgate_api_keys_broken") == 0)


def processes_that_say(server: ServerProcess, message: str, since: int = 0) -> int:
    lines = tuple(server.lines)[since:]
    return len({line["process"] for line in lines if line["message"] == message})


def test_a_worker_that_takes_anothers_place_has_the_keys_of_now(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    put(path, keys.line_of("shop", SHOP))
    with running(workers=1, threads=2, api_keys_file=path) as server:
        wait_until(lambda: answered(server, SHOP))
        put(path, keys.line_of("lab", LAB))
        wait_until(lambda: processes_that_say(server, "API keys taken") == 2)
        put(path, "broken")
        worker = ask(server, get("/", bearer(LAB))).json["process"]
        os.kill(worker, 9)
        wait_until(lambda: answered(server, LAB))

        assert ask(server, get("/", bearer(SHOP))).status == 401


def answered(server: ServerProcess, key: str) -> bool:
    try:
        return ask(server, get("/", bearer(key))).status == 200
    except (EOFError, OSError):
        return False


# --- limits


def test_a_limit_holds_over_all_processes_and_tells_when_to_come_again() -> None:
    with running(workers=2, threads=2, rate_limits="address=40/hour") as server:
        wait_until(lambda: len(probed(server)) == 2)
        callers = [Caller(server.address) for _ in range(20)]
        answers = [caller.ask(get("/")) for _ in range(3) for caller in callers]
        for caller in callers:
            caller.close()
        passed = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status != 200]

        assert len({answer.json["process"] for answer in passed}) == 2
        assert (len(passed), len(refused)) == (40, 20)
        for answer in refused:
            assert_problem(answer, 429, "rate-limited")
            assert 1 <= int(answer.headers["retry-after"]) <= 90
        assert ask(server, get("/healthz")).status == 200
        assert metric(server, 'tensorgate_refused_total{reason="rate-limited"}') == 20


def probed(server: ServerProcess) -> set[int]:
    """The workers that answer a probe on one of several connections."""
    callers = [Caller(server.address) for _ in range(8)]
    found = {caller.ask(get("/healthz")).json["process"] for caller in callers}
    for caller in callers:
        caller.close()
    return found


def test_a_limit_is_judged_before_the_body() -> None:
    with running(workers=1, threads=2, rate_limits="address=1/hour") as server:
        assert ask(server, get("/")).status == 200
        head = "POST / HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 60000\r\n\r\n"
        assert_problem(ask(server, head.encode()), 429, "rate-limited")


def test_what_is_refused_for_another_reason_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    put(path, keys.line_of("shop", SHOP))
    limits = {"rate_limits": "address=2/hour,key=2/hour", "api_keys_file": path}
    with running(workers=1, threads=2, **limits) as server:
        large = f"POST / HTTP/1.1\r\nHost: a\r\n{bearer(SHOP)}\r\nContent-Length: 999999999\r\n\r\n"
        refused = [ask(server, get("/")).status for _ in range(3)]
        refused += [ask(server, large.encode()).status for _ in range(3)]
        statuses = [ask(server, get("/", bearer(SHOP))).status for _ in range(3)]

    assert refused == [401] * 3 + [413] * 3
    assert statuses == [200, 200, 429]


def test_a_request_costs_as_many_pictures_as_it_holds() -> None:
    """There is no model: what is counted is answered 503, what is not, 429."""
    urls = json.dumps({"urls": ["http://192.0.2.1/a.jpg"] * 4}).encode()
    one = json.dumps({"url": "http://192.0.2.1/a.jpg"}).encode()
    settings = {"rate_limits": "address=10/hour", "workers": 2}
    with processes.gateway(NOBODY_IS_THERE, wait=False, **settings) as gateway:
        answers = [gateway.ask("POST", "/predict", urls) for _ in range(3)]
        answers += [gateway.ask("POST", "/predict", one) for _ in range(2)]

    # The third costs one, by its head; the fourth is the tenth picture.
    assert [answer.status for answer in answers] == [503, 503, 429, 503, 429]
    for answer in (answers[2], answers[4]):
        assert answer.json["type"] == "urn:tensorgate:problem:rate-limited"
        assert int(answer.headers["retry-after"]) > 0


def test_a_form_costs_as_many_pictures_as_it_has_files() -> None:
    part = "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\nx\r\n"
    form = (part * 5 + "--b--\r\n").encode()
    settings = {"rate_limits": "address=5/hour", "workers": 1}
    media = "multipart/form-data; boundary=b"
    with processes.gateway(NOBODY_IS_THERE, wait=False, **settings) as gateway:
        first = gateway.ask("POST", "/predict", form, content_type=media)
        second = gateway.ask("GET", "/models")

    assert (first.status, second.status) == (503, 429)


# --- proxies


@pytest.fixture(scope="module")
def behind() -> Iterator[ServerProcess]:
    settings = {"trusted_proxies": "127.0.0.0/8", "rate_limits": "address=3/hour"}
    with running(workers=1, threads=2, **settings) as process:
        yield process


def test_behind_a_trusted_proxy_the_caller_is_whom_it_names(behind: ServerProcess) -> None:
    lines = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.1, 127.0.0.2"]
    assert ask(behind, get("/", *lines, "X-Request-ID: proxied")).status == 200
    line = line_of(behind, "request", request_id="proxied")

    assert (line["caller"], line["proxy"]) == ("198.51.100.1", "127.0.0.1")


def test_behind_a_trusted_proxy_each_caller_has_its_own_limit(behind: ServerProcess) -> None:
    def statuses(address: str, times: int) -> list[int]:
        invented = f"X-Forwarded-For: 192.0.2.{times}, {address}"
        return [ask(behind, get("/", invented)).status for _ in range(times)]

    assert statuses("198.51.100.7", 4) == [200, 200, 200, 429]
    assert statuses("198.51.100.7", 5) == [429] * 5
    assert statuses("198.51.100.8", 1) == [200]
    assert statuses("2001:db8:0:1::1", 3) == [200] * 3
    assert statuses("2001:db8:0:1::2", 1) == [429]


def test_without_trusted_proxies_a_caller_cannot_name_himself(server: ServerProcess) -> None:
    ask(server, get("/", "X-Forwarded-For: 198.51.100.1", "X-Request-ID: named-himself"))

    assert line_of(server, "request", request_id="named-himself")["caller"] == "127.0.0.1"


# --- what is told


def test_a_refusal_is_a_line_that_says_who_by_which_guard_and_why(server: ServerProcess) -> None:
    ask(server, get("/predict?secret=1", bearer(STRANGER), "X-Request-ID: told"))
    line = line_of(server, "refused", request_id="told")

    assert (
        line.items()
        >= {
            "logger": "tensorgate.audit",
            "level": "warning",
            "guard": "unauthorized",
            "detail": "The API key is not one that this gateway knows.",
            "caller": "127.0.0.1",
            "method": "GET",
            "path": "/predict",
        }.items()
    )
    assert "secret" not in json.dumps(line)


def test_in_a_flood_every_refusal_is_a_line_or_counted() -> None:
    number = 20 * LINES_A_SECOND
    with running(workers=1, threads=2, allowed_hosts="elsewhere.test") as server:
        with Caller(server.address) as caller:
            statuses = {caller.ask(get("/")).status for _ in range(number)}

        def told() -> int:
            counts = lines_of(server, "refusals not written", guard="host-not-allowed")
            written = lines_of(server, "refused", guard="host-not-allowed")
            return len(written) + sum(int(str(line["refusals"])) for line in counts)

        wait_until(lambda: told() >= number)
        assert statuses == {421}
        assert told() == number


ANSWERS = {
    "an answer": (200, get("/", bearer(SHOP))),
    "a probe": (200, get("/healthz")),
    "no key": (401, get("/")),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "not HTTP": (400, b"\x16\x03\x01\r\n\r\n"),
    "an origin": (403, get("/", bearer(SHOP), "Origin: https://other.test")),
    "an unknown method": (405, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "too long": (414, get("/" + "a" * 9000)),
    "too many fields": (431, get("/", *["A: b"] * 200)),
    "a failure": (500, get("/broken", bearer(SHOP))),
}


@pytest.mark.parametrize(("status", "request_bytes"), ANSWERS.values(), ids=ANSWERS.keys())
def test_every_answer_keeps_a_browser_from_misusing_it_and_names_no_server(
    caller: Caller, status: int, request_bytes: bytes
) -> None:
    answer = caller.ask(request_bytes)

    assert answer.status == status
    assert answer.headers.items() >= PROTECTION.items()
    assert answer.headers.keys().isdisjoint({"server", "x-powered-by", "via"})


def test_the_metrics_too_are_kept_from_browsers(server: ServerProcess) -> None:
    with Caller(server.metrics_address) as caller:
        assert caller.ask(get("/metrics")).headers.items() >= PROTECTION.items()
