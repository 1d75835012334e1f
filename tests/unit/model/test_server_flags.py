"""The command line is TensorFlow Serving's, and says what cannot be had."""

import os
from dataclasses import fields

import pytest

from model.server.flags import OURS, REFUSED, FlagError, Flags, parse_flags, usage
from tests.support import serving_reference

FLAG_ROWS = [row for row in serving_reference.section("flags") if "name" in row.more]
CPUS = len(os.sched_getaffinity(0))
MEANINGS = {"4xCPU": 4 * CPUS, "CPU": CPUS}
"""What the reference's words for a default mean on this machine."""


def test_every_flag_of_the_reference_is_here_and_no_other_but_ours() -> None:
    assert {entry.name for entry in fields(Flags)} - OURS == {row.more["name"] for row in FLAG_ROWS}


@pytest.mark.parametrize("row", FLAG_ROWS, ids=lambda row: row.id)
def test_a_flag_has_the_references_default(row: serving_reference.Row) -> None:
    [entry] = [entry for entry in fields(Flags) if entry.name == row.more["name"]]
    expected = MEANINGS.get(str(row.more.get("default")), row.more.get("default"))
    if expected in (None, 0, False):
        assert getattr(Flags(), entry.name) in (0, False)
    else:
        assert getattr(Flags(), entry.name) == expected
    assert entry.metadata["help"].endswith(".")


def test_values_follow_an_equals_sign_or_the_flag() -> None:
    flags = parse_flags(["--port=9000", "--model_name", "hat", "--model_base_path=/m=1"])
    assert (flags.port, flags.model_name, flags.model_base_path) == (9000, "hat", "/m=1")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--enable_batching", True),
        ("--enable_batching=true", True),
        ("--enable_batching=TRUE", True),
        ("--enable_batching=1", True),
        ("--enable_batching=false", False),
        ("--enable_batching=0", False),
    ],
)
def test_booleans_are_true_alone_or_by_their_word(argument: str, expected: bool) -> None:
    assert parse_flags([argument]).enable_batching is expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--colour=blue"], "unknown argument: --colour=blue"),
        (["-port=1"], "unknown argument: -port=1"),
        (["serve"], "unknown argument: serve"),
        (["--enable_batching", "true"], "unknown argument: true"),
        (["--port=many"], "--port must be a whole number, not 'many'"),
        (["--per_process_gpu_memory_fraction=x"], "must be a number, not 'x'"),
        (["--enable_batching=yes"], "--enable_batching must be true or false, not 'yes'"),
        (["--port"], "--port needs a value"),
        (["--model_name", "--port=1"], "--model_name needs a value"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(arguments: list[str], said: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse_flags(arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


WORKING = {
    "platform_config_file": "/p",
    "prefer_tflite_model": "true",
    "num_tflite_pools": "4",
    "num_tflite_interpreters_per_pool": "2",
    "enable_profiler": "true",
    "thread_pool_factory_config_file": "/t",
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_pythons_runtime_cannot_do_is_refused_by_name(name: str) -> None:
    with pytest.raises(FlagError, match=f"^--{name}={WORKING[name]} cannot be had here: "):
        parse_flags([f"--{name}={WORKING[name]}"])


@pytest.mark.parametrize(
    "argument",
    [
        "--enable_profiler=false",
        "--prefer_tflite_model=false",
        "--num_tflite_interpreters_per_pool=1",
        "--platform_config_file=",
    ],
)
def test_a_refused_flag_may_ask_for_nothing(argument: str) -> None:
    assert parse_flags([argument])


def test_the_usage_names_every_flag_within_80_columns() -> None:
    lines = usage().splitlines()
    for entry in fields(Flags):
        assert any(line.startswith(f"  --{entry.name}=") for line in lines)
    assert max(map(len, lines)) <= 80
