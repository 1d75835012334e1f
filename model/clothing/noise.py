"""Smooth random fields, which folds, clouds and wood grain are made of."""

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.float32]


def smooth(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> Field:
    """A field of values about -1 to 1 with that many cells (down, across)."""
    coarse = rng.uniform(-1, 1, (cells[0] + 3, cells[1] + 3)).astype(np.float32)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def clouds(rng: np.random.Generator, height: int, width: int, cells: int) -> Field:
    """Three octaves of smooth, about -1 to 1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(3):
        count = cells * 2**octave
        total += smooth(rng, height, width, (count, count)) * np.float32(0.6**octave)
    return total / np.float32(1.6)
