"""What the server does with each sort of request, over raw sockets to a real process."""

import base64
import hashlib
import time
from collections.abc import Iterator

import pytest

from tests.support.server_process import (
    Caller,
    ServerProcess,
    assert_problem,
    get,
    metric,
    post,
    running,
    wait_until,
)

MAX_IMAGE = 64 * 1024
MAX_JSON = 2048
MARGIN = 2.0
"""Seconds by which a busy machine may be late."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    settings: dict[str, object] = {
        "workers": 1,
        "threads": 2,
        "max_in_flight": 4,
        "head_timeout": 0.5,
        "body_timeout": 0.5,
        "request_timeout": 1.5,
        "answer_timeout": 0.5,
        "max_image_bytes": MAX_IMAGE,
        "max_json_bytes": MAX_JSON,
        "max_images": 2,
        "allowed_hosts": "gateway.test,127.0.0.1,[::1]",
        "allowed_origins": "https://page.test",
    }
    with running(**settings) as process:
        yield process


@pytest.fixture
def caller(server: ServerProcess) -> Iterator[Caller]:
    with Caller(server.address) as opened:
        yield opened


CHUNKED = "Transfer-Encoding: chunked"


def lines(*parts: str, body: str = "") -> bytes:
    return ("\r\n".join([*parts, "", ""]) + body).encode("latin-1")


HOST = "Host: gateway.test"
POST = "POST /predict HTTP/1.1"


@pytest.mark.case("D11")
def test_a_declared_body_over_the_limit_is_refused_without_being_read(caller: Caller) -> None:
    head = post("/predict", b"", content_type="image/jpeg")
    answer = caller.ask(head.replace(b"Length: 0", b"Length: %d" % (MAX_IMAGE + 1)))

    assert_problem(answer, 413, "content-too-large")
    assert caller.closed()


def test_a_caller_that_sends_all_of_a_refused_body_still_reads_the_answer(caller: Caller) -> None:
    caller.send(post("/predict", b"x" * 4 * 1024 * 1024, content_type="image/jpeg"))

    assert_problem(caller.read(), 413, "content-too-large")


def base64_length(size: int) -> int:
    return len(base64.b64encode(b"\0" * size))


@pytest.mark.case("D11")
@pytest.mark.parametrize(
    ("content_type", "limit"),
    [
        ("image/jpeg", MAX_IMAGE),
        ("application/octet-stream", MAX_IMAGE),
        ("application/json; charset=utf-8", base64_length(MAX_IMAGE) + 64 * 1024),
        ("application/problem+json", base64_length(MAX_IMAGE) + 64 * 1024),
        ("multipart/form-data; boundary=x", 2 * MAX_IMAGE + 64 * 1024),
        ("text/plain", MAX_JSON),
        ("", MAX_JSON),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_each_content_type_has_its_limit_to_the_byte(
    server: ServerProcess, content_type: str, limit: int, framing: str
) -> None:
    with Caller(server.address) as caller:
        at_limit = caller.ask(framed(b"x" * limit, content_type, framing))
        assert at_limit.status == 200, at_limit.json
    with Caller(server.address) as caller:
        one_over = caller.ask(framed(b"x" * (limit + 1), content_type, framing))

    assert (at_limit.status, at_limit.json["length"]) == (200, limit)
    assert at_limit.json["sha256"] == hashlib.sha256(b"x" * limit).hexdigest()
    assert_problem(one_over, 413, "content-too-large")


def framed(body: bytes, content_type: str, framing: str) -> bytes:
    if framing == "length":
        return post("/predict", body, content_type=content_type)
    middle = len(body) // 2
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:middle], body[middle:])
    )
    return lines(POST, HOST, f"Content-Type: {content_type}", CHUNKED) + chunks + b"0\r\n\r\n"


@pytest.mark.case("E12")
def test_the_body_is_asked_for_only_when_it_will_be_read(caller: Caller) -> None:
    whole = post("/predict", b'{"a": 1}', "Expect: 100-continue")
    head, body = whole[:-8], whole[-8:]

    assert caller.ask(head).status == 100
    assert caller.ask(body).json["length"] == 8


@pytest.mark.case("E12")
def test_a_refused_caller_that_expects_continue_hears_no_100(caller: Caller) -> None:
    head = lines(POST, HOST, "Content-Length: 99999999", "Expect: 100-continue")

    assert_problem(caller.ask(head), 413, "content-too-large")


def test_a_usable_request_id_is_echoed(caller: Caller) -> None:
    answer = caller.ask(get("/", "X-Request-ID: order-66.a_B"))

    assert answer.headers["x-request-id"] == "order-66.a_B"
    assert answer.json["request_id"] == "order-66.a_B"


@pytest.mark.parametrize("given", ["a b", "x" * 129, "<script>", "a\tb", ""])
def test_an_unusable_request_id_is_replaced(caller: Caller, given: str) -> None:
    answer = caller.ask(get("/", f"X-Request-ID: {given}"))

    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 36


def test_a_connection_serves_many_requests(caller: Caller) -> None:
    answers = [caller.ask(post("/predict", b"{}")) for _ in range(20)]

    assert [answer.status for answer in answers] == [200] * 20
    assert not any("connection" in answer.headers for answer in answers)


@pytest.mark.case("E13")
def test_pipelined_requests_are_answered_in_their_order(caller: Caller) -> None:
    caller.send(get("/1") + post("/2", b"{}") + get("/slow?0.1") + get("/4"))
    answers = [caller.read() for _ in range(4)]

    assert [answer.json["path"] for answer in answers] == ["/1", "/2", "/slow", "/4"]


@pytest.mark.case("E13")
def test_a_refusal_in_a_pipeline_leaves_its_neighbors_alone(caller: Caller) -> None:
    caller.send(get("/1") + get("/2", "Origin: https://evil.test") + get("/3"))
    answers = [caller.read() for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 403, 200]
    assert answers[2].json["path"] == "/3"


@pytest.mark.case("E13")
def test_a_pipelined_request_that_comes_in_pieces_stays_whole(server: ServerProcess) -> None:
    second = get("/second")
    for _ in range(20):
        with Caller(server.address) as caller:
            caller.send(get("/first") + second[:20])
            for place in range(20, len(second)):
                caller.send(second[place : place + 1])
            answers = [caller.read() for _ in range(2)]

        assert [answer.json["path"] for answer in answers] == ["/first", "/second"]


@pytest.mark.case("E13")
def test_a_large_pipelined_body_that_comes_in_pieces_is_read_whole(server: ServerProcess) -> None:
    body = b"x" * (3 * MAX_IMAGE - 100)
    second = post("/second", body, content_type="multipart/form-data; boundary=b")
    for _ in range(20):
        with Caller(server.address) as caller:
            caller.send(get("/first") + second[:60_000])
            caller.send(second[60_000:])
            answers = [caller.read() for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 200]
        assert answers[1].json["sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.case("E13")
def test_a_caller_that_hangs_up_behind_much_that_it_pipelined_is_noticed(
    server: ServerProcess,
) -> None:
    request_id = "hangs-up-behind-much"
    with Caller(server.address) as caller:
        caller.send(get(f"/slow?{MARGIN}", f"X-Request-ID: {request_id}"))
        wait_until(lambda: metric(server, "tensorgate_in_flight") == 1)
        caller.send(b"x" * 100_000)
    wait_until(lambda: metric(server, "tensorgate_in_flight") == 0)

    def how_it_ended() -> list[str]:
        lines = tuple(server.lines)
        return [line["message"] for line in lines if line.get("request_id") == request_id]

    wait_until(lambda: bool(how_it_ended()))
    assert how_it_ended() == ["caller gone"]


def test_a_pipelined_request_waits_on_its_own_clock(caller: Caller) -> None:
    caller.send(get("/slow?0.7") + get("/second"))
    caller.read()

    assert caller.read().json["remaining"] < 1.5 - 0.6


def test_head_answers_without_a_body_and_the_connection_goes_on(caller: Caller) -> None:
    head = caller.ask(get("/large?5").replace(b"GET", b"HEAD"), head=True)

    assert (head.status, head.headers["content-length"]) == (200, "5")
    assert caller.ask(get("/next")).json["path"] == "/next"


def test_http_1_0_is_answered_and_closed(caller: Caller) -> None:
    answer = caller.ask(lines("GET / HTTP/1.0", HOST))

    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert caller.closed()


def test_connection_close_is_kept(caller: Caller) -> None:
    answer = caller.ask(get("/", "Connection: close"))

    assert answer.headers["connection"] == "close"
    assert caller.closed()


@pytest.mark.case("E8")
def test_an_absolute_target_of_our_own_host_is_taken(caller: Caller) -> None:
    answer = caller.ask(lines("GET http://gateway.test/a?b HTTP/1.1", HOST))

    assert (answer.json["path"], answer.json["query"]) == ("/a", "b")


@pytest.mark.case("E14")
def test_an_upgrade_is_not_taken_up(caller: Caller) -> None:
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")

    assert caller.ask(get("/", *fields)).status == 200


def test_fields_that_could_be_mistaken_for_others_do_not_reach_the_application(
    caller: Caller,
) -> None:
    answer = caller.ask(get("/", "X_Request_ID: a", "Proxy: http://evil.test", "X-A: 1", "X-A: 2"))

    assert answer.json["headers"] == {"HTTP_HOST": "gateway.test", "HTTP_X_A": "1,2"}


@pytest.mark.parametrize("host", ["gateway.test:9696", "GATEWAY.TEST", "127.0.0.1:1", "[::1]:80"])
def test_a_known_host_is_answered_on_any_port(caller: Caller, host: str) -> None:
    assert caller.ask(lines("GET / HTTP/1.1", f"Host: {host}")).status == 200


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.2", "gateway.test.evil.test", "[::2]"])
def test_an_unknown_host_is_refused(caller: Caller, host: str) -> None:
    answer = caller.ask(lines("GET / HTTP/1.1", f"Host: {host}"))

    assert_problem(answer, 421, "host-not-allowed")


@pytest.mark.parametrize("origin", ["https://evil.test", "http://page.test", "null"])
def test_a_page_of_an_unknown_origin_is_refused_and_reads_nothing(
    caller: Caller, origin: str
) -> None:
    answer = caller.ask(get("/", f"Origin: {origin}"))

    assert_problem(answer, 403, "origin-not-allowed")
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_of_a_known_origin_may_read_answers(caller: Caller) -> None:
    answer = caller.ask(get("/", "Origin: https://page.test"))

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://page.test"
    assert answer.headers["vary"] == "Origin"


def test_the_gateways_own_page_may_call(caller: Caller) -> None:
    assert caller.ask(get("/", "Origin: http://gateway.test")).status == 200


def test_a_preflight_is_answered_by_the_server(server: ServerProcess, caller: Caller) -> None:
    asks = ("Origin: https://page.test", "Access-Control-Request-Method: POST")
    answer = caller.ask(get("/preflight", *asks).replace(b"GET", b"OPTIONS"))

    assert answer.status == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert caller.ask(get("/next")).status == 200


def test_a_failing_application_answers_500_without_its_reason(
    server: ServerProcess, caller: Caller
) -> None:
    answer = caller.ask(get("/broken"))

    assert_problem(answer, 500, "internal-error")
    assert b"ZeroDivision" not in answer.body
    assert "ZeroDivisionError" in server.wait_for_line("the application failed")["trace"]


@pytest.mark.case("E11")
def test_a_stalled_head_is_answered_408_in_time(caller: Caller) -> None:
    start = time.monotonic()
    answer = caller.ask(b"G")

    assert_problem(answer, 408, "request-timeout")
    assert 0.4 < time.monotonic() - start < 0.5 + MARGIN
    assert caller.closed()


@pytest.mark.case("E11")
def test_a_head_that_drips_is_cut_in_time(caller: Caller) -> None:
    start = time.monotonic()
    for byte in get("/", "X-A: " + "a" * 100):
        caller.send(bytes([byte]))
        if time.monotonic() - start > 0.5:
            break
        time.sleep(0.05)

    assert_problem(caller.read(), 408, "request-timeout")
    assert time.monotonic() - start < 0.5 + MARGIN


@pytest.mark.case("E11")
def test_a_stalled_body_is_answered_408_in_time(caller: Caller) -> None:
    start = time.monotonic()
    answer = caller.ask(post("/predict", b"{}").replace(b"Length: 2", b"Length: 3"))

    assert_problem(answer, 408, "request-timeout")
    assert 0.4 < time.monotonic() - start < 0.5 + MARGIN
    assert caller.closed()


def test_a_silent_connection_is_closed_without_a_word(caller: Caller) -> None:
    start = time.monotonic()

    assert caller.closed()
    assert time.monotonic() - start < 0.5 + MARGIN


@pytest.mark.case("E11")
def test_an_answer_that_nobody_reads_is_cut(server: ServerProcess) -> None:
    with Caller(server.address) as caller:
        caller.send(get(f"/large?{64 * 1024 * 1024}"))
        wait_until(lambda: metric(server, "tensorgate_connections") == 1)
        start = time.monotonic()
        wait_until(lambda: metric(server, "tensorgate_connections") == 0)

    assert time.monotonic() - start < 0.5 + MARGIN


def test_an_application_that_overstays_its_deadline_is_answered_for(caller: Caller) -> None:
    start = time.monotonic()
    answer = caller.ask(get("/stuck?3"))

    assert_problem(answer, 504, "deadline-exceeded")
    assert time.monotonic() - start < 1.5 + 0.5 + MARGIN


@pytest.mark.case("E13")
def test_a_caller_that_hangs_up_gives_its_place_back(server: ServerProcess) -> None:
    callers = [Caller(server.address) for _ in range(4)]
    for caller in callers:
        caller.send(get("/slow?1.2"))
    wait_until(lambda: metric(server, "tensorgate_in_flight") == 4)
    with Caller(server.address) as late:
        refused = late.ask(post("/predict", b"{}"))
    for caller in callers:
        caller.close()
    start = time.monotonic()
    wait_until(lambda: metric(server, "tensorgate_in_flight") == 0)
    waited = time.monotonic() - start
    with Caller(server.address) as late:
        accepted = late.ask(post("/predict", b"{}"))

    assert_problem(refused, 503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert waited < 0.5
    assert accepted.status == 200


def test_an_overload_is_refused_before_the_body_is_read(server: ServerProcess) -> None:
    callers = [Caller(server.address) for _ in range(4)]
    for caller in callers:
        caller.send(get("/slow?1"))
    wait_until(lambda: metric(server, "tensorgate_in_flight") == 4)
    with Caller(server.address) as late:
        refused = late.ask(post("/predict", b"").replace(b"Length: 0", b"Length: 100"))
        probe = Caller(server.address)
        healthy = probe.ask(get("/healthz"))
        probe.close()
    for caller in callers:
        caller.close()

    assert_problem(refused, 503, "overloaded")
    assert healthy.status == 200
