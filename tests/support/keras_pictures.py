"""Keras's own way from a file to the tensor: the oracle for preprocessing."""

import io
import warnings

import keras
import numpy as np

from gateway.scoring.contract_document import Preprocessing


def keras_tensor(data: bytes, wanted: Preprocessing, dtype: str = "float32") -> np.ndarray:
    """load_img, img_to_array and preprocess_input, as a training script calls them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = keras.utils.load_img(
            io.BytesIO(data),
            color_mode=wanted.color_mode,
            target_size=(wanted.height, wanted.width),
            interpolation=wanted.resampling,
        )
    array = keras.utils.img_to_array(image, dtype=dtype)
    if wanted.scaling == "none":
        return np.asarray(array)
    return np.asarray(
        keras.applications.imagenet_utils.preprocess_input(array, mode=wanted.scaling)
    )
