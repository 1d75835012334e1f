import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import ContractMismatch
from gateway.scoring.contract_document import ContractDocument, Preprocessing, parse_contract

SCHEMA = json.loads(
    (Path(__file__).parents[3] / "model" / "contract.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

SMALLEST: dict[str, Any] = {
    "format": 1,
    "labels": ["cat", "dog"],
    "preprocessing": {"height": 299, "width": 200, "scaling": "tf"},
}


def with_fields(**fields: Any) -> str:
    return json.dumps({**SMALLEST, **fields})


def with_preprocessing(**fields: Any) -> str:
    return with_fields(preprocessing={**SMALLEST["preprocessing"], **fields})


def accepted(text: str) -> bool:
    try:
        parse_contract(text)
    except ContractMismatch:
        return False
    return True


ODD: list[Any] = [None, True, False, 0, 1, -1, 1.0, 1.5, 255, 256, 4096, 4097, 299.0, 1e400]
ODD += ["", "rgb", "tf", "x", [], ["a"], ["a", "a"], ["a", ""], ["a", 1], {}, {"a": 1}]
ODD += [[0, 0, 0], [0, 0, 256], [0, 0], [1.0, 2.0, 3.0], [True, 0, 0], [-1, 0, 0]]

SELDOM = st.integers(0, 19).map(lambda number: number == 0)


def values(schema: dict[str, Any], usual: Any) -> st.SearchStrategy[Any]:
    """Mostly a value that the schema allows, seldom one of any kind."""
    allowed = [schema[key] for key in ("const", "default") if key in schema]
    allowed += schema.get("enum", []) or [usual]
    return SELDOM.flatmap(lambda odd: st.sampled_from(ODD if odd else allowed))


def objects(schema: dict[str, Any], base: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The base with some fields changed and seldom one left out or added."""
    names = schema["properties"]
    changes = st.fixed_dictionaries(
        {}, optional={name: values(field, base.get(name, "x")) for name, field in names.items()}
    )

    def merge(parts: tuple[dict[str, Any], bool, bool, str]) -> dict[str, Any]:
        changed, adds, leaves_out, name = parts
        merged = {**base, **changed, **({"extra": 1} if adds else {})}
        return {key: value for key, value in merged.items() if not leaves_out or key != name}

    return st.tuples(changes, SELDOM, SELDOM, st.sampled_from(sorted(names))).map(merge)


PREPROCESSING = objects(
    SCHEMA["properties"]["preprocessing"], {**SMALLEST["preprocessing"], "transparency": [1, 2, 3]}
)


@st.composite
def documents(draw: st.DrawFn) -> Any:
    whole = draw(objects(SCHEMA, SMALLEST))
    if isinstance(whole.get("preprocessing"), dict):
        return {**whole, "preprocessing": draw(PREPROCESSING)}
    return whole


@given(documents())
@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_the_schema_allows_is_read_and_what_it_forbids_is_refused(document: Any) -> None:
    assert accepted(json.dumps(document)) == VALIDATOR.is_valid(document)


@pytest.mark.parametrize("name", SCHEMA["properties"])
def test_each_field_of_the_document_alone_agrees_with_the_schema(name: str) -> None:
    for value in ODD:
        text = with_fields(**{name: value})
        assert accepted(text) == VALIDATOR.is_valid(json.loads(text)), value


@pytest.mark.parametrize("name", SCHEMA["properties"]["preprocessing"]["properties"])
def test_each_field_of_preprocessing_alone_agrees_with_the_schema(name: str) -> None:
    further = [2.0, "nearest", "bgr", "scale", [255, 255, 255], ["0", 0, 0], [0, 0, 0, 0]]

    for value in [*ODD, *further]:
        text = with_preprocessing(**{name: value})
        assert accepted(text) == VALIDATOR.is_valid(json.loads(text)), value


@pytest.mark.parametrize(
    "document", [None, 1, "text", [], [SMALLEST], True, {}, {"preprocessing": SMALLEST}]
)
def test_what_is_no_contract_at_all_is_refused_by_both(document: Any) -> None:
    assert not accepted(json.dumps(document))
    assert not VALIDATOR.is_valid(document)


def test_the_smallest_contract_gets_the_schemas_defaults() -> None:
    properties = SCHEMA["properties"]
    preprocessing = properties["preprocessing"]["properties"]

    assert parse_contract(json.dumps(SMALLEST)) == ContractDocument(
        labels=("cat", "dog"),
        preprocessing=Preprocessing(
            height=299,
            width=200,
            scaling="tf",
            resampling=preprocessing["resampling"]["default"],
            color_mode=preprocessing["color_mode"]["default"],
            color_order="rgb",
            transparency=None,
            exif_orientation=preprocessing["exif_orientation"]["default"],
            sixteen_bit=preprocessing["sixteen_bit"]["default"],
        ),
        signature=properties["signature"]["default"],
        input=None,
        output=None,
        scores=properties["scores"]["default"],
    )


def test_every_field_is_read() -> None:
    document = parse_contract(
        json.dumps(
            {
                "format": 1,
                "signature": "score",
                "input": "picture",
                "output": "logits",
                "labels": ["Katze", "鳥"],
                "scores": "probabilities",
                "preprocessing": {
                    "height": 1,
                    "width": 4096,
                    "resampling": "lanczos",
                    "color_mode": "rgb",
                    "color_order": "bgr",
                    "scaling": "torch",
                    "transparency": [0, 128, 255],
                    "exif_orientation": True,
                    "sixteen_bit": "scale",
                },
            }
        ).encode()
    )

    assert document == ContractDocument(
        labels=("Katze", "鳥"),
        preprocessing=Preprocessing(
            height=1,
            width=4096,
            scaling="torch",
            resampling="lanczos",
            color_mode="rgb",
            color_order="bgr",
            transparency=(0, 128, 255),
            exif_orientation=True,
            sixteen_bit="scale",
        ),
        signature="score",
        input="picture",
        output="logits",
        scores="probabilities",
    )


def test_caffe_scaling_turns_colors_round_unless_the_contract_says_otherwise() -> None:
    by_default = parse_contract(with_preprocessing(scaling="caffe"))
    told = parse_contract(with_preprocessing(scaling="caffe", color_order="rgb"))

    assert by_default.preprocessing.color_order == "bgr"
    assert told.preprocessing.color_order == "rgb"


def test_whole_numbers_become_integers_however_they_are_written() -> None:
    preprocessing = parse_contract(with_preprocessing(height=32.0)).preprocessing

    assert isinstance(preprocessing.height, int)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "The contract is not JSON"),
        (b"\xff\xfe", "The contract is not JSON"),
        ("\ufeff{}", "The contract is not JSON"),
        ("[" * 100_000, "The contract is not JSON: it is nested too deeply"),
        ('{"format": 1, "format": 1}', "names 'format' twice"),
        (with_fields(labels=["a", "a"]), "'labels' in the contract holds 'a' twice"),
        (with_fields(labels=["a", "\ud800"]), "half of a surrogate pair"),
        (with_preprocessing(height=float("nan")), "holds NaN"),
        (with_preprocessing(height=float("-inf")), "holds -Infinity"),
        ('{"format": 1, "labels": ["a"]}', "The contract lacks 'preprocessing'"),
        (with_fields(format=2), "must be 1, the version of the form that this gateway reads"),
        (with_fields(label=["a"], color=1), "has unknown fields: 'color', 'label'"),
        (with_preprocessing(height=0), "must be a whole number from 1 to 4096, and is 0"),
        (with_preprocessing(scaling="imagenet"), "must be one of tf, caffe, torch, none"),
        (with_preprocessing(transparency="white"), "must be a list of red, green and blue"),
        (with_preprocessing(color_mode="grayscale", scaling="torch"), "needs three channels"),
        (with_preprocessing(color_mode="grayscale", color_order="bgr"), "there is one channel"),
        (with_fields(labels="a" * 1000), 'and is "aaaaaa'),
    ],
)
def test_a_wrong_contract_is_refused_with_a_sentence_that_says_what_is_wrong(
    text: str | bytes, sentence: str
) -> None:
    with pytest.raises(ContractMismatch) as error:
        parse_contract(text)

    assert sentence in error.value.message
    assert len(error.value.message) < 250
    assert error.value.message.endswith(".")
