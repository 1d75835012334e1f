"""Requests generated from the OpenAPI document, sound and unsound, against the real process.

schemathesis makes them, the same ones each time, and holds each answer to the document: its status,
headers, content type and JSON, that unsound requests are refused and that nothing is a failure of
the gateway's. Pictures may come from one host, which does not exist: nothing is fetched.
"""

import base64
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from gateway.routes.operations import DOCUMENT
from tests.support.hostile_pictures import mangled
from tests.support.pictures import KINDS
from tests.support.processes import gateway
from tests.support.stub_serving import StubServing

Case = schemathesis.Case[Any]
PICTURES = [KINDS[kind](np.random.default_rng(0), (8, 6)) for kind in sorted(KINDS)]
MANGLED = [mangled(np.random.default_rng(seed), data) for seed, data in enumerate(PICTURES)]

load_all_checks()
schemathesis.openapi.media_type("image/*", st.sampled_from([*PICTURES, *MANGLED]))
schema = schemathesis.openapi.from_path(DOCUMENT)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    settings: dict[str, Any] = {"picture_hosts": "pictures.invalid", "request_timeout": 5}
    with StubServing(labels={"stable": 1}) as stub, gateway(stub.address, **settings) as made:
        yield f"http://{made.address[0]}:{made.address[1]}"


@schema.parametrize()
@hypothesis.settings(derandomize=True, max_examples=300)
def test_an_answer_is_what_the_document_says(case: Case, base_url: str) -> None:
    """Whether a sound request is also one of this gateway's, the document cannot know."""
    case.call_and_validate(
        base_url=base_url, excluded_checks=[positive_data_acceptance], timeout=10
    )


@hypothesis.given(case=schema["/predict"]["POST"].as_strategy())
@hypothesis.settings(derandomize=True, max_examples=300)
def test_a_sound_question_is_answered(case: Case, base_url: str) -> None:
    fit(case)

    answer = case.call(base_url=base_url, timeout=10)

    assert answer.status_code in {200, 422}, answer.text
    case.validate_response(
        answer, excluded_checks=[positive_data_acceptance, negative_data_rejection]
    )


def fit(case: Case) -> None:
    """Make a sound question one of this gateway's.

    The document does not know its model, its picture hosts, what a picture is, nor that with a
    JSON body nothing stands in the query; for it 3.0 is a whole number, and for the gateway 3 is.
    """
    options: dict[str, Any] = case.query
    body: Any = case.body
    if case.media_type == "application/json":
        case.query = {}
        options = body
        fit_source(body)
    elif case.media_type == "multipart/form-data":
        body.clear()
        body["file"] = PICTURES[len(options) % len(PICTURES)]
    else:
        case.headers["Content-Type"] = case.media_type = "image/png"
    known = {"model": "clothing-model", "version": 1, "label": "stable"}
    if "top" in options:
        options["top"] = int(options["top"])
    options |= {name: known[name] for name in known.keys() & options.keys()}
    if "version" in options:
        options.pop("label", None)


def fit_source(options: dict[str, Any]) -> None:
    url = "https://pictures.invalid/a.jpg"
    if "image" in options:
        chosen = PICTURES[len(options["image"]) % len(PICTURES)]
        options["image"] = base64.b64encode(chosen).decode()
    elif "urls" in options:
        options["urls"] = [url] * min(len(options["urls"]), 4)
    else:
        options["url"] = url
