"""docs/contract.md says what model/contract.schema.json says, and its examples work."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.scoring.contract_document import parse_contract

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
SCHEMA = json.loads((ROOT / "model" / "contract.schema.json").read_text(encoding="utf-8"))
DOCUMENT: dict[str, Any] = SCHEMA["properties"]
PREPROCESSING: dict[str, Any] = DOCUMENT["preprocessing"]["properties"]
SMALLEST, FULLEST = (
    json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
)


def rows(heading: str) -> dict[str, tuple[str, str, str, str]]:
    """The table under a heading: default, values, example and meaning by field."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    return {name.strip("`"): (a, b, c, d) for name, a, b, c, d in cells}


FIELDS = [
    *(
        (name, DOCUMENT[name], SCHEMA["required"], row)
        for name, row in rows("The document").items()
    ),
    *(
        (name, PREPROCESSING[name], DOCUMENT["preprocessing"]["required"], row)
        for name, row in rows("Preprocessing").items()
    ),
]


def test_the_page_has_every_field_of_the_schema_in_its_order() -> None:
    assert list(rows("The document")) == list(DOCUMENT)
    assert sorted(rows("Preprocessing")) == sorted(PREPROCESSING)


@pytest.mark.parametrize(
    ("name", "schema", "required", "row"), FIELDS, ids=lambda value: str(value)[:20]
)
def test_default_and_values_of_a_field_are_the_schemas(
    name: str, schema: dict[str, Any], required: list[str], row: tuple[str, str, str, str]
) -> None:
    default, allowed, _, _ = row

    if name in required:
        assert default == "required"
    elif "default" in schema:
        assert default == f"`{json.dumps(schema['default'])}`"
    else:
        assert default == "none" or "where" in default
    if "enum" in schema:
        assert re.findall(r"`(.+?)`", allowed) == [json.dumps(value) for value in schema["enum"]]
    if "maximum" in schema:
        assert allowed == f"{schema['minimum']} to {schema['maximum']}"


@pytest.mark.parametrize("name", [name for name, *_ in FIELDS])
def test_the_example_of_a_field_is_a_value_it_takes(name: str) -> None:
    inside = name in PREPROCESSING
    example = json.loads(
        (rows("Preprocessing") if inside else rows("The document"))[name][2].strip("`")
    )
    preprocessing = {"height": 32, "width": 32, "scaling": "tf"}
    document = {"format": 1, "labels": ["cat"], "preprocessing": preprocessing}
    (preprocessing if inside else document)[name] = example

    jsonschema.validate(document, SCHEMA)
    parse_contract(json.dumps(document))


def test_the_two_whole_examples_are_contracts_and_the_fuller_has_every_field() -> None:
    for document in (SMALLEST, FULLEST):
        jsonschema.validate(document, SCHEMA)
        parse_contract(json.dumps(document))

    assert sorted(FULLEST) == sorted(DOCUMENT)
    assert sorted(FULLEST["preprocessing"]) == sorted(PREPROCESSING)
