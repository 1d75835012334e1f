"""What export makes of a contract: the same as the gateway will, before anything is exported."""

import json

import pytest

from gateway.errors import ContractMismatch
from gateway.scoring.contract import parse_contract
from model.contract import Signature, Tensor, UnfitContract, check_fit, read_contract

PLAIN = '{"format": 1, "labels": ["a"], "preprocessing": {"height": 2, "width": 3, "scaling": %s}}'


def signature(dtype: str = "DT_FLOAT", shape: tuple[int, ...] | None = (-1, 2, 3, 3)) -> Signature:
    return Signature(
        "serving_default", (Tensor("x", dtype, shape),), (Tensor("y", "DT_FLOAT", (-1, 1)),)
    )


@pytest.mark.parametrize(
    "text",
    [
        PLAIN % '"tf", "scaling": "tf"',
        PLAIN % "NaN",
        PLAIN % '"keras"',
        PLAIN % '"tf"' + "}",
        "[]",
        "",
    ],
)
def test_what_the_gateway_refuses_is_not_exported(text: str) -> None:
    with pytest.raises(ContractMismatch):
        parse_contract(text)
    with pytest.raises(UnfitContract):
        read_contract(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "the contract lacks 'format', 'labels', 'preprocessing'"),
        (PLAIN % '"keras"', "preprocessing.scaling in the contract: 'keras' is not one of"),
        (PLAIN.replace('["a"]', "[1]") % '"tf"', "labels[0] in the contract: 1 is not of type"),
        (PLAIN % '"tf", "size": 3', "preprocessing in the contract has no field 'size'; it has"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(UnfitContract) as caught:
        read_contract(text)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("shape", [None, (-1, 2, 3, 3), (-1, -1, -1, 3), (8, 2, 3, 3)])
def test_a_signature_that_takes_the_contracts_pictures_fits(shape: tuple[int, ...] | None) -> None:
    check_fit(json.loads(PLAIN % '"tf"'), signature(shape=shape))


@pytest.mark.parametrize("shape", [(-1, 3, 2, 3), (-1, 2, 3, 1), (-1, 2, 3), (-1, 18)])
def test_another_size_is_refused_with_both_sides(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnfitContract, match=r"\[-1, 2, 3, 3\].*takes \["):
        check_fit(json.loads(PLAIN % '"tf"'), signature(shape=shape))


def test_bytes_go_only_to_models_that_scale_themselves() -> None:
    check_fit(json.loads(PLAIN % '"none"'), signature("DT_UINT8"))
    with pytest.raises(UnfitContract, match="makes fractions"):
        check_fit(json.loads(PLAIN % '"torch"'), signature("DT_UINT8"))
    with pytest.raises(UnfitContract, match="DT_STRING"):
        check_fit(json.loads(PLAIN % '"none"'), signature("DT_STRING"))
