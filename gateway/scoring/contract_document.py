"""The contract's JSON, as `model/contract.schema.json` defines it, read strictly.

The gateway has no JSON Schema library: what the schema says is said again here, and a test holds
the two together on generated documents.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeVar, cast, get_args

from gateway.errors import ContractMismatch

Resampling = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Scaling = Literal["tf", "caffe", "torch", "none"]
ColorMode = Literal["rgb", "grayscale"]
ColorOrder = Literal["rgb", "bgr"]
SixteenBit = Literal["clip", "scale"]
Scores = Literal["logits", "probabilities"]

FORMAT = 1
LARGEST_SIDE = 4096

T = TypeVar("T")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the tensor; defaults equal Keras's load_img and preprocess_input.

    color_order is the tensor's own. Keras turns colors round where scaling is "caffe", and the
    contract's JSON need not say so: `parse_contract` fills it in.
    """

    height: int
    width: int
    scaling: Scaling
    resampling: Resampling = "nearest"
    color_mode: ColorMode = "rgb"
    color_order: ColorOrder = "rgb"
    transparency: tuple[int, int, int] | None = None
    exif_orientation: bool = False
    sixteen_bit: SixteenBit = "clip"

    @property
    def channels(self) -> int:
        """Values per pixel: 3, or 1 for grayscale."""
        return 1 if self.color_mode == "grayscale" else 3


@dataclass(frozen=True)
class ContractDocument:
    """The contract's JSON, read and checked, before it meets a signature."""

    labels: tuple[str, ...]
    preprocessing: Preprocessing
    signature: str = "serving_default"
    input: str | None = None
    output: str | None = None
    scores: Scores = "logits"


def parse_contract(text: str | bytes) -> ContractDocument:
    """The contract that the text holds.

    Beyond the schema the text must be UTF-8 JSON in which no object names a key twice, no number
    is NaN or infinite and no string holds half of a surrogate pair.

    Raises:
        ContractMismatch: it is none; the message says what is wrong and where.
    """
    fields = _Fields(_read_json(text), "the contract")
    fields.take("format", _format)
    document = ContractDocument(
        labels=fields.take("labels", _labels),
        preprocessing=fields.take("preprocessing", _preprocessing),
        signature=fields.take("signature", _name, "serving_default"),
        input=fields.take("input", _name, None),
        output=fields.take("output", _name, None),
        scores=fields.take("scores", _one_of(Scores), "logits"),
    )
    fields.finish()
    return document


def _read_json(text: str | bytes) -> object:
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        document = json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_no_such_number
        )
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ContractMismatch("The contract holds half of a surrogate pair.") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise ContractMismatch(f"The contract is not JSON: {reason}.") from error
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        repeated = next(name for name, _ in pairs if [key for key, _ in pairs].count(name) > 1)
        raise ContractMismatch(f"The contract names {repeated!r} twice.")
    return keys


def _no_such_number(name: str) -> NoReturn:
    raise ContractMismatch(f"The contract holds {name}, which is no number in JSON.")


_REQUIRED: Any = object()


class _Fields:
    """The fields of one object, each taken once by its name; what is left over is refused."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, "be an object", value)
        self._left: dict[str, object] = dict(value)
        self._where = where

    def take(self, name: str, parse: Callable[[object, str], T], default: T = _REQUIRED) -> T:
        """The field's value, or the default where it is absent."""
        if name in self._left:
            return parse(self._left.pop(name), f"{name!r} in {self._where}")
        if default is _REQUIRED:
            raise ContractMismatch(f"{_sentence(self._where)} lacks {name!r}.")
        return default

    def finish(self) -> None:
        """Refuse fields that nobody took."""
        if self._left:
            names = ", ".join(repr(name) for name in sorted(self._left))
            raise ContractMismatch(f"{_sentence(self._where)} has unknown fields: {names}.")


def _preprocessing(value: object, where: str) -> Preprocessing:
    fields = _Fields(value, where)
    side = _integer(1, LARGEST_SIDE)
    scaling = fields.take("scaling", _one_of(Scaling))
    caffe: ColorOrder = "bgr" if scaling == "caffe" else "rgb"
    preprocessing = Preprocessing(
        height=fields.take("height", side),
        width=fields.take("width", side),
        scaling=scaling,
        resampling=fields.take("resampling", _one_of(Resampling), "nearest"),
        color_mode=fields.take("color_mode", _one_of(ColorMode), "rgb"),
        color_order=fields.take("color_order", _one_of(ColorOrder), caffe),
        transparency=fields.take("transparency", _color, None),
        exif_orientation=fields.take("exif_orientation", _boolean, False),
        sixteen_bit=fields.take("sixteen_bit", _one_of(SixteenBit), "clip"),
    )
    fields.finish()
    _check_grayscale(preprocessing, where)
    return preprocessing


def _check_grayscale(preprocessing: Preprocessing, where: str) -> None:
    """Refuse what needs three channels of a tensor that has one, as Keras does."""
    if preprocessing.color_mode != "grayscale":
        return
    if preprocessing.scaling in ("caffe", "torch"):
        raise ContractMismatch(
            f"{_sentence(where)} has the scaling {preprocessing.scaling!r}, which needs three "
            'channels: with color_mode "grayscale" it must be "tf" or "none".'
        )
    if preprocessing.color_order == "bgr":
        raise ContractMismatch(
            f'{_sentence(where)} has the color_order "bgr", and with color_mode "grayscale" there '
            "is one channel: leave it out."
        )


def _format(value: object, where: str) -> int:
    if isinstance(value, bool) or value != FORMAT:
        raise _wrong(where, f"be {FORMAT}, the version of the form that this gateway reads", value)
    return FORMAT


def _labels(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _wrong(where, "be a list of at least one name", value)
    labels = tuple(_name(label, f"each of {where}") for label in value)
    if len(set(labels)) != len(labels):
        repeated = next(label for label in labels if labels.count(label) > 1)
        raise ContractMismatch(f"{_sentence(where)} holds {repeated!r} twice.")
    return labels


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, "be a string that is not empty", value)
    return value


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "be true or false", value)
    return value


def _color(value: object, where: str) -> tuple[int, int, int]:
    if not isinstance(value, list) or len(value) != 3:
        raise _wrong(where, "be a list of red, green and blue", value)
    red, green, blue = (_integer(0, 255)(part, f"each of {where}") for part in value)
    return red, green, blue


def _integer(low: int, high: int) -> Callable[[object, str], int]:
    """JSON has one kind of number: 299.0 is a whole one, as JSON Schema says."""

    def parse(value: object, where: str) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not low <= cast(float, value) <= high:
            raise _wrong(where, f"be a whole number from {low} to {high}", value)
        return int(cast(float, value))

    return parse


def _one_of(literal: Any) -> Callable[[object, str], Any]:
    names: tuple[str, ...] = get_args(literal)

    def parse(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in names:
            raise _wrong(where, f"be one of {', '.join(names)}", value)
        return value

    return parse


def _wrong(where: str, must: str, value: object) -> ContractMismatch:
    shown = json.dumps(value, ensure_ascii=False)
    short = shown if len(shown) <= 60 else shown[:57] + "..."
    return ContractMismatch(f"{_sentence(where)} must {must}, and is {short}.")


def _sentence(where: str) -> str:
    return where[0].upper() + where[1:]
