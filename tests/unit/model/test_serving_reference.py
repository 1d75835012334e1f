"""The transcribed reference and the tests that exercise it agree."""

import pytest

from tests.support import serving_reference as reference

BY_TABLE = {"flags": "test_server_flags.py"}
"""Sections whose rows with a name are taken by a test from the table itself."""
CANNOT_HAPPEN = {
    "errors.reload-platform-no-entry": "the server's own platform map has every platform it routes"
}


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
    files = reference.exercised()["errors.wrong-shape"]
    assert files == {"test_model_server_errors.py", "test_model_server_rest.py"}


def test_every_confirmed_row_is_exercised_and_no_other_is_missing() -> None:
    named = {
        row.id for section in BY_TABLE for row in reference.section(section) if "name" in row.more
    }
    confirmed = {row.id for row in reference.rows().values() if not row.unconfirmed}
    assert confirmed - set(reference.exercised()) - named == set(CANNOT_HAPPEN)


def test_tables_that_are_taken_whole_are_taken_by_their_test() -> None:
    for section, name in BY_TABLE.items():
        [path] = reference.TESTS.rglob(name)
        assert f'section("{section}")' in path.read_text(encoding="utf-8")


def test_the_unconfirmed_rows_are_known() -> None:
    unconfirmed = {row.id for row in reference.rows().values() if row.unconfirmed}
    assert unconfirmed == {"errors.run-timeout"}
