"""A contract on the model's side: read, checked against the schema and against a signature.

The gateway reads contracts with code of its own; tests hold both to `contract.schema.json`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = Path(__file__).parent / "contract.schema.json"

Document = Mapping[str, Any]


class UnfitContract(Exception):
    """A contract breaks the schema or does not fit the model; the message says both sides."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature: its name, dtype (DT_FLOAT, …) and shape.

    Sizes that are not known are -1; an unknown rank is None.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one signature."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_contract(text: str) -> Document:
    """The contract that the text holds.

    Raises:
        UnfitContract: the text is not JSON or breaks the schema.
    """
    try:
        document = json.loads(text, object_pairs_hook=_unrepeated, parse_constant=_no_constant)
        jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    except json.JSONDecodeError as error:
        raise UnfitContract(f"the contract is not JSON: {error}") from error
    except jsonschema.ValidationError as error:
        raise UnfitContract(_broken_rule(error)) from error
    return dict(document)


def _broken_rule(error: jsonschema.ValidationError) -> str:
    """Which rule of the schema a contract breaks, and where."""
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    )
    place = f"{where.lstrip('.')} in the contract" if where else "the contract"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = ", ".join(repr(name) for name in error.instance if name not in known)
        return f"{place} has no field {unknown}; it has {', '.join(known)}"
    if error.validator == "required":
        lacking = ", ".join(
            repr(name) for name in error.validator_value if name not in error.instance
        )
        return f"{place} lacks {lacking}"
    return f"{place}: {error.message}"


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise UnfitContract(f"the contract has the member {repeated!r} twice")
    return members


def _no_constant(name: str) -> float:
    raise UnfitContract(f"the contract holds {name}, which is not JSON")


def contract_text(document: Document) -> str:
    """The text that travels with the model."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def input_of(document: Document, signature: Signature) -> Tensor:
    """The input that takes the picture.

    Raises:
        UnfitContract: the signature has another input, or several.
    """
    if len(signature.inputs) != 1:
        raise UnfitContract(
            f"the signature {signature.name!r} has {_names(signature.inputs)} as inputs,"
            " and a picture fills exactly one: export a signature with one input"
        )
    tensor = signature.inputs[0]
    if document.get("input", tensor.name) != tensor.name:
        raise UnfitContract(
            f"the contract names the input {document['input']!r}, and the signature"
            f" {signature.name!r} has {tensor.name!r}"
        )
    return tensor


def output_of(document: Document, signature: Signature) -> Tensor:
    """The output that holds the scores.

    Raises:
        UnfitContract: the signature lacks it, or has several and the contract names none.
    """
    by_name = {tensor.name: tensor for tensor in signature.outputs}
    if "output" in document:
        if document["output"] not in by_name:
            raise UnfitContract(
                f"the contract names the output {document['output']!r}, and the signature"
                f" {signature.name!r} has {_names(signature.outputs)}"
            )
        return by_name[document["output"]]
    if len(signature.outputs) != 1:
        raise UnfitContract(
            f"the signature {signature.name!r} has the outputs {_names(signature.outputs)}:"
            ' say in the contract which holds the scores ("output")'
        )
    return signature.outputs[0]


def check_fit(document: Document, signature: Signature) -> None:
    """Check labels against outputs and the picture's size against the input.

    Raises:
        UnfitContract: they do not fit; the message names both sides.
    """
    picture = input_of(document, signature)
    preprocessing = document["preprocessing"]
    channels = 1 if preprocessing.get("color_mode") == "grayscale" else 3
    made = (-1, preprocessing["height"], preprocessing["width"], channels)
    if picture.shape is not None and not _fits(made, picture.shape):
        raise UnfitContract(
            f"the contract makes pictures of shape {_shape(made)}, and the input"
            f" {picture.name!r} takes {_shape(picture.shape)}"
        )
    if picture.dtype not in ("DT_FLOAT", "DT_HALF", "DT_UINT8"):
        raise UnfitContract(
            f"the input {picture.name!r} takes {picture.dtype}, and pictures are sent as"
            " DT_FLOAT, DT_HALF or DT_UINT8"
        )
    if picture.dtype == "DT_UINT8" and preprocessing["scaling"] != "none":
        raise UnfitContract(
            f"the input {picture.name!r} takes DT_UINT8, and the scaling"
            f' {preprocessing["scaling"]!r} makes fractions: it must be "none"'
        )
    scores = output_of(document, signature)
    check_scores(document, scores.name, scores.shape)


def check_scores(document: Document, name: str, shape: tuple[int, ...] | None) -> None:
    """Check the number of labels against an output's shape.

    Raises:
        UnfitContract: they differ.
    """
    labels = len(document["labels"])
    if shape is not None and not _fits((-1, labels), shape):
        found = f"the contract has {labels} labels, and the output {name!r} has the shape"
        if len(shape) == 2 and shape[1] > 0:
            raise UnfitContract(f"{found} {_shape(shape)}: write {shape[1]} labels")
        raise UnfitContract(f"{found} {_shape(shape)}: it must be [-1, {labels}]")


def _fits(made: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(made) == len(wanted) and all(
        there in (-1, here) or here == -1 for here, there in zip(made, wanted, strict=True)
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"


def _names(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(repr(tensor.name) for tensor in tensors) or "none"
