"""The model contract: what a caller must know to use a model.

Names, dtypes and shapes come from the server (GetModelMetadata); labels and preprocessing from the
contract's JSON, whose form `model/contract.schema.json` defines.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Resampling = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Scaling = Literal["tf", "caffe", "torch", "none"]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the tensor; defaults equal Keras's load_img and preprocess_input."""

    height: int
    width: int
    scaling: Scaling
    resampling: Resampling = "nearest"
    color_mode: Literal["rgb", "grayscale"] = "rgb"
    color_order: Literal["rgb", "bgr"] = "rgb"
    transparency: tuple[int, int, int] | None = None
    exif_orientation: bool = False
    sixteen_bit: Literal["clip", "scale"] = "clip"

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
    scores: Literal["logits", "probabilities"] = "logits"


@dataclass(frozen=True)
class ModelContract:
    """One version's contract: the document joined with that version's signature.

    input_shape and output_shape are as the signature gives them, -1 for the batch.
    """

    model: str
    version: int
    document: ContractDocument
    input_name: str
    input_dtype: np.dtype
    input_shape: tuple[int, ...]
    output_name: str
    output_shape: tuple[int, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each score, in the output's order."""
        return self.document.labels

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the tensor."""
        return self.document.preprocessing
