"""Batches for training, and a line of progress per epoch."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from PIL import Image

from model.clothing.dataset import SIDE, Answers, Pictures, Pixels, Tensor, scaled

SMALLEST_WINDOW = 0.85


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches, each picture varied: mirrored, cut at its edges, in other colors.

    The network shall learn shapes and not a split's colors. Nothing here turns a picture or adds
    a pattern: poses and patterns stay those of the split.
    """

    def __init__(self, pictures: Pictures, size: int, seed: int) -> None:
        super().__init__(workers=1)
        self._pictures = pictures
        self._size = size
        self._rng = np.random.default_rng(seed)
        self._order = self._rng.permutation(len(pictures.answers))

    def __len__(self) -> int:
        """Whole batches in one pass."""
        return len(self._order) // self._size

    def __getitem__(self, number: int) -> tuple[Tensor, Answers]:
        """One batch: float32 (n, 299, 299, 3) and the places of the labels."""
        chosen = self._order[number * self._size : (number + 1) * self._size]
        shown = np.stack([self._shown(self._pictures.pixels[place]) for place in chosen])
        return self._colored(scaled(shown)), self._pictures.answers[chosen]

    def on_epoch_end(self) -> None:
        """Another order for the next pass."""
        self._order = self._rng.permutation(self._order)

    def _shown(self, pixels: Pixels) -> Pixels:
        """Most of one picture, in half of the cases mirrored."""
        width, height = SIDE * self._rng.uniform(SMALLEST_WINDOW, 1, 2)
        left, top = self._rng.random(2) * (SIDE - width, SIDE - height)
        window = (left, top, left + width, top + height)
        image = Image.fromarray(pixels)
        part = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.NEAREST, window))
        return part[:, ::-1] if self._rng.random() < 0.5 else part

    def _colored(self, batch: Tensor) -> Tensor:
        """With other contrast and brightness per channel, some as negatives."""
        shape = (len(batch), 1, 1, 3)
        negative = np.where(self._rng.random((len(batch), 1, 1, 1)) < 0.3, -1, 1)
        batch *= (self._rng.uniform(0.7, 1.3, shape) * negative).astype(np.float32)
        batch += self._rng.uniform(-0.2, 0.2, shape).astype(np.float32)
        return np.clip(batch, -1, 1, out=batch)


class Report(keras.callbacks.Callback):  # type: ignore[misc]
    """Says after each epoch how far the training is."""

    def __init__(self, epochs: int, say: Callable[[str], None]) -> None:
        super().__init__()
        self._epochs = epochs
        self._say = say
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """One line."""
        figures = logs or {}
        self._say(
            f"epoch {epoch + 1} of {self._epochs}: loss {figures['loss']:.3f},"
            f" accuracy {figures['accuracy']:.3f}, {time.monotonic() - self._started:.0f} s"
        )
