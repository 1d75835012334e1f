import json

import pytest

from gateway import errors
from gateway.errors import GatewayError, Kind
from gateway.problem import (
    STATUS_OF_KIND,
    encode,
    problem,
    problem_of_error,
    problem_of_status,
    retry_after,
)
from gateway.server import refusals

STATUSES = {
    "invalid": 400,
    "refused": 422,
    "not-found": 404,
    "limited": 429,
    "overloaded": 503,
    "unavailable": 503,
    "deadline": 504,
    "upstream": 502,
    "internal": 500,
}


def leaves() -> list[type[GatewayError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, GatewayError) and value is not GatewayError
    ]


def test_each_kind_has_the_status_the_contract_gives_it() -> None:
    assert {kind.value: status for kind, status in STATUS_OF_KIND.items()} == STATUSES
    assert set(STATUS_OF_KIND) == set(Kind)


def test_members_come_in_the_order_of_rfc_9457_and_error_repeats_the_detail() -> None:
    document = problem(400, "invalid-request", "Title", "Detail.", "abc", "/predict", field="top")
    assert list(document.items()) == [
        ("type", "urn:tensorgate:problem:invalid-request"),
        ("title", "Title"),
        ("status", 400),
        ("detail", "Detail."),
        ("instance", "/predict"),
        ("request_id", "abc"),
        ("error", "Detail."),
        ("field", "top"),
    ]


def test_instance_is_a_uri_even_when_only_the_request_id_is_known() -> None:
    text = "0b6a3c1e-5a0c-4b5e-9a3e-6f3a0d9d7c11"
    assert problem(400, "a", "b", "c", text)["instance"] == f"urn:uuid:{text}"
    assert problem(400, "a", "b", "c", "mine-1")["instance"] == "urn:tensorgate:request:mine-1"


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: str(leaf.slug))
def test_every_error_of_the_tree_becomes_a_problem(leaf: type[GatewayError]) -> None:
    document = problem_of_error(leaf("What and what to do."), "id")
    assert document["status"] == STATUSES[leaf.kind.value]
    assert document["type"] == f"urn:tensorgate:problem:{leaf.slug}"
    assert document["detail"] == document["error"] == "What and what to do."


def test_every_slug_is_used_once() -> None:
    slugs = [leaf.slug for leaf in leaves()]
    assert len(slugs) == len(set(slugs))


def test_the_log_detail_is_not_shown() -> None:
    error = errors.URLNotAllowed("It cannot be fetched.", log_detail="10.0.0.7")
    assert b"10.0.0.7" not in encode(problem_of_error(error, "id"))


def test_the_status_of_the_pictures_host_is_a_member() -> None:
    error = errors.OriginFailed("The host answered 404.", origin_status=404)
    assert problem_of_error(error, "id")["origin_status"] == 404


@pytest.mark.parametrize(
    ("status", "slug"),
    [(404, "not-found"), (405, "method-not-allowed"), (406, "not-acceptable")],
)
def test_http_errors_have_names_of_their_own_or_their_phrase(status: int, slug: str) -> None:
    document = problem_of_status(status, "Detail.", "id")
    assert document["type"] == f"urn:tensorgate:problem:{slug}"


def test_a_type_has_one_title_whoever_finds_the_error() -> None:
    refusal = refusals.too_large(1)
    document = problem_of_status(413, "Detail.", "id")
    assert refusal.title == document["title"]
    assert document["type"].endswith(refusal.slug)


def test_503_says_when_to_try_again_and_others_do_not() -> None:
    assert retry_after(errors.Overloaded("Full.")) == 1
    assert retry_after(errors.Overloaded("Full.", retry_after=7)) == 7
    assert retry_after(errors.ModelUnavailable("Gone.")) == 1
    assert retry_after(errors.InvalidRequest("Wrong.")) is None


def test_a_lone_surrogate_in_a_detail_is_still_json() -> None:
    body = encode(problem(400, "a", "b", "field '\ud800'", "id"))
    assert json.loads(body)["detail"] == "field '\ud800'"
    assert body.isascii()
