"""Pictures as the network takes them, drawn by several processes."""

import io
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.clothing.pictures import LABELS, Split, draw

SIDE = 299
Pixels = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.float32]
Answers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures (n, 299, 299, 3) and the place of each one's label in LABELS."""

    pixels: Pixels
    answers: Answers


def decoded(jpeg: bytes) -> Pixels:
    """A JPEG's pixels at 299 x 299, as Keras's load_img gives them with interpolation "nearest"."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST))


def scaled(pixels: Pixels) -> Tensor:
    """Pixels as float32 in [-1, 1], bit for bit as Keras's preprocess_input in its mode tf."""
    tensor = pixels.astype(np.float32)
    tensor /= np.float32(127.5)
    tensor -= np.float32(1.0)
    return tensor


def drawn(
    split: Split, seed: int, count: int, processes: int, progress: Callable[[int], None]
) -> Pictures:
    """The first count pictures of a split; progress is told how many there are, one by one."""
    pixels = np.empty((count, SIDE, SIDE, 3), np.uint8)
    jobs = [(split, seed, index) for index in range(count)]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawned, initializer=_end_with_parent) as pool:
        for index, picture in enumerate(pool.map(_picture, jobs, chunksize=16)):
            pixels[index] = picture
            progress(index + 1)
    return Pictures(pixels, np.arange(count) % len(LABELS))


def _end_with_parent() -> None:
    """See to it that this process of the pool does not outlive who made it, however that ends."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _picture(job: tuple[Split, int, int]) -> Pixels:
    """One picture's pixels, in a process of the pool."""
    return decoded(draw(*job).jpeg)
