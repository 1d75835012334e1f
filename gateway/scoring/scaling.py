"""Pixels become the tensor: Keras's preprocess_input, bit for bit, in one pass over one buffer.

The steps are Keras's own (keras.applications.imagenet_utils.preprocess_input), in the tensor's
dtype and in its order: x / 127.5 - 1 is exact where x * (1 / 127.5) - 1 is not.
"""

from collections.abc import Sequence

import numpy as np

from gateway.scoring.contract_document import Preprocessing

TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68, 116.779, 103.939)
"""ImageNet's means and deviations, red, green and blue, as Keras has them."""


def to_tensor(
    pixels: Sequence[np.ndarray], preprocessing: Preprocessing, dtype: np.dtype
) -> np.ndarray:
    """A batch of pictures as the model takes them: (number, height, width, channels).

    Args:
        pixels: what `decode` gave for each picture under the same preprocessing.
        preprocessing: says how values are scaled and colors ordered.
        dtype: the tensor's; uint8 only where scaling is "none". Pixels that it cannot hold (16-bit
            grey in uint8 or float16) become its largest value.
    """
    shape = (len(pixels), preprocessing.height, preprocessing.width, preprocessing.channels)
    batch = np.empty(shape, dtype)
    for picture, tensor in zip(pixels, batch, strict=True):
        _fill(tensor, _held_by(picture, dtype), preprocessing)
    return batch


def _held_by(picture: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if picture.dtype == np.uint8 or dtype == np.float32:
        return picture
    largest = np.iinfo(dtype).max if dtype == np.uint8 else int(np.finfo(dtype).max)
    held: np.ndarray = np.minimum(picture, largest)
    return held


def _fill(tensor: np.ndarray, picture: np.ndarray, preprocessing: Preprocessing) -> None:
    """Write one picture into its place in the batch."""
    _copy(tensor, picture, reverse=preprocessing.color_order == "bgr")
    if preprocessing.scaling == "tf":
        tensor /= 127.5
        tensor -= 1.0
    elif preprocessing.scaling == "torch":
        tensor /= 255.0
        rows = tensor.reshape(preprocessing.height, -1)
        rows -= _row(TORCH_MEAN, preprocessing, tensor.dtype)
        rows /= _row(TORCH_DEVIATION, preprocessing, tensor.dtype)
    elif preprocessing.scaling == "caffe":
        rows = tensor.reshape(preprocessing.height, -1)
        rows -= _row(CAFFE_MEAN, preprocessing, tensor.dtype)


def _copy(tensor: np.ndarray, picture: np.ndarray, reverse: bool) -> None:
    """Turned round one channel at a time, which numpy does three times as fast as all at once."""
    if not reverse:
        tensor[...] = picture
        return
    channels = picture.shape[-1]
    for channel in range(channels):
        tensor[..., channel] = picture[..., channels - 1 - channel]


def _row(
    colors: tuple[float, float, float], preprocessing: Preprocessing, dtype: np.dtype
) -> np.ndarray:
    """The three values again for each pixel of a row: numpy is slow over an axis of three."""
    order = colors[::-1] if preprocessing.color_order == "bgr" else colors
    return np.tile(np.array(order, dtype), preprocessing.width)
