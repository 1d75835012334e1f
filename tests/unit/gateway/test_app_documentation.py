"""docs/api.md says what the code does."""

import re
from pathlib import Path

from gateway import errors
from gateway.app import create_app
from gateway.errors import GatewayError
from gateway.problem import STATUS_OF_KIND
from gateway.routes.bodies import OPTIONS, SOURCES
from tests.support.fake_serving import FakeVersion, one_server, parts, settings

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
UNHEARD = {"caller-gone"}
"""Errors that nobody is there to hear."""


def test_every_route_is_on_the_page_and_every_route_of_the_page_exists() -> None:
    app = create_app(settings(), parts(one_server(v1=FakeVersion())))
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    named = set(re.findall(r"^\| `(?:GET|POST) (/[\w.]+)`", PAGE, re.MULTILINE))
    assert named == routes


def test_every_error_is_on_the_page_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", PAGE, re.MULTILINE)
    named = {
        (int(status), slug) for status, cell in rows for slug in re.findall(r"`([\w-]+)`", cell)
    }
    leaves = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, GatewayError) and value is not GatewayError
    ]
    raised = {(STATUS_OF_KIND[leaf.kind], leaf.slug) for leaf in leaves if leaf.slug not in UNHEARD}
    by_http = {(404, "not-found"), (405, "method-not-allowed"), (413, "content-too-large")}
    by_http |= {(415, "unsupported-media-type"), (503, "not-ready")}
    assert named == raised | by_http


def test_every_field_is_on_the_page() -> None:
    assert all(f'"{name}":' in PAGE for name in (*SOURCES, *OPTIONS))
