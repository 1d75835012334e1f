"""gateway/openapi.json says what the code does; tests/integration/test_openapi.py asks it."""

import json
from typing import Any

import pytest
from flask import Flask

from gateway import errors, problem
from gateway.admission import OPERATIONS
from gateway.app import create_app
from gateway.errors import CallerGone, Draining, GatewayError
from gateway.routes.bodies import OPTIONS, SOURCES
from gateway.routes.operations import DOCUMENT
from tests.support.fake_serving import FakeVersion, one_server, parts, settings

OPENAPI = json.loads(DOCUMENT.read_bytes())
SCHEMAS = OPENAPI["components"]["schemas"]
PREDICT = OPENAPI["paths"]["/predict"]["post"]


@pytest.fixture
def app() -> Flask:
    return create_app(settings(), parts(one_server(v1=FakeVersion())))


def types(response: dict[str, Any]) -> set[str]:
    """The slugs that an error's answer may have."""
    (content,) = response["content"].values()
    _, narrowed = content["schema"]["allOf"]
    return {each.rpartition(":")[2] for each in narrowed["properties"]["type"]["enum"]}


def test_every_route_and_method_is_in_the_document_and_no_other(app: Flask) -> None:
    routes = {
        (rule.rule, method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {
        (path, name) for path, methods in OPENAPI["paths"].items() for name in methods
    }


def test_the_document_is_served_as_it_is(app: Flask) -> None:
    answer = app.test_client().get("/openapi.json")
    assert answer.content_type == "application/json"
    assert answer.data == DOCUMENT.read_bytes()


def test_every_error_that_a_prediction_may_end_in_stands_under_its_status() -> None:
    leaves = [each for each in vars(errors).values() if isinstance(each, type)]
    raised = {
        (problem.STATUS_OF_KIND[leaf.kind], leaf.slug)
        for leaf in leaves
        if issubclass(leaf, GatewayError) and leaf not in {GatewayError, CallerGone, Draining}
    }
    by_server = {401, 413, 415, 508}
    raised |= {(status, problem.OF_HTTP[status][0]) for status in by_server}
    raised |= {(400, "malformed-http")}
    responses = {int(key): value for key, value in PREDICT["responses"].items() if key.isdigit()}
    named = {
        (status, slug)
        for status, response in responses.items()
        if "content" in response and status != 200
        for slug in types(response)
    }
    assert named == raised


def test_every_error_that_asks_to_try_again_says_when() -> None:
    for status in ("429", "503"):
        assert PREDICT["responses"][status]["headers"]["Retry-After"]["required"]


def test_every_field_and_option_is_in_the_document() -> None:
    forms = SCHEMAS["Question"]["oneOf"]
    assert [form["required"] for form in forms] == [[source] for source in SOURCES]
    for form in forms:
        assert set(form["properties"]) == {*form["required"], *OPTIONS}
    assert [parameter["name"] for parameter in PREDICT["parameters"]] == list(OPTIONS)


def test_every_member_of_a_problem_is_in_the_document() -> None:
    members = set(problem.problem(400, "a", "b", "c", "d"))
    assert set(SCHEMAS["Problem"]["required"]) == members
    assert set(SCHEMAS["Problem"]["properties"]) == members | {"origin_status", "missing"}


def test_only_probes_are_for_callers_without_a_key() -> None:
    operations = {
        path: operation
        for path, methods in OPENAPI["paths"].items()
        for operation in methods.values()
    }
    without = {path for path, operation in operations.items() if operation.get("security") == []}
    assert without == OPERATIONS
    assert all("security" not in operations[path] for path in operations.keys() - OPERATIONS)
