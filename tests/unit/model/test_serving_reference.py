"""The transcribed reference and the tests that exercise it agree."""

import pytest

from tests.support import serving_reference as reference


def test_every_row_says_where_it_is_from_and_how_its_text_is_compared() -> None:
    for row in reference.rows().values():
        assert row.id.startswith(f"{row.section}.")
        assert set(row.marks) <= {"S", "D", "K"}
        assert row.unconfirmed is ("K" in row.marks)
        has_text = row.text is not None or row.rest_text is not None
        assert (row.match in {"whole", "part"}) is has_text, row.id


def test_texts_are_filled_and_cut_parts_are_found_in_order() -> None:
    reference.row("errors.unknown-model").check(
        "NOT_FOUND", "Servable not found for request: Latest(hat)", NAME="hat"
    )
    reference.row("errors.wrong-shape").check("INVALID_ARGUMENT", "x [[{{node add}}]] y")
    with pytest.raises(AssertionError, match="no '}}]]'"):
        reference.row("errors.wrong-shape").check("INVALID_ARGUMENT", "x [[{{node add")
    with pytest.raises(AssertionError, match="does not name LABEL"):
        reference.row("errors.unknown-model").check("NOT_FOUND", "x", LABEL="hat")


def test_a_row_is_exercised_where_a_test_names_it() -> None:
    assert "test_serving_reference.py" in reference.exercised()["errors.wrong-shape"]
