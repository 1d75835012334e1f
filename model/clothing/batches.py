"""Batches for training, and a line of progress per epoch."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from model.clothing.dataset import Answers, Pictures, Pixels, Tensor, scaled


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches, each picture varied a little: mirrored, negated, its colors swapped.

    The network must not learn what a split's colors are, only shapes; patterns, backgrounds and
    poses stay those of the split.
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
        """One batch: float32 (n, 299, 299, 3) and the labels' indices."""
        chosen = np.sort(self._order[number * self._size : (number + 1) * self._size])
        varied = [self._varied(self._pictures.pixels[index]) for index in chosen]
        return scaled(np.stack(varied)), self._pictures.answers[chosen]

    def on_epoch_end(self) -> None:
        """Another order for the next pass."""
        self._order = self._rng.permutation(self._order)

    def _varied(self, pixels: Pixels) -> Pixels:
        """One picture, varied."""
        if self._rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        if self._rng.random() < 0.5:
            pixels = pixels[:, :, self._rng.permutation(3)]
        if self._rng.random() < 0.3:
            pixels = 255 - pixels
        return pixels


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
