from dataclasses import replace
from typing import Literal

import keras
import numpy as np
import pytest

from gateway.scoring.contract_document import Preprocessing, Scaling
from gateway.scoring.scaling import to_tensor

WANTED = Preprocessing(height=16, width=48, scaling="tf")
EVERY_BYTE = np.arange(16 * 48 * 3, dtype=np.int64).reshape(16, 48, 3).astype(np.uint8)
FLOAT32, FLOAT16, UINT8 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint8)


def keras_has(pixels: np.ndarray, mode: Scaling, dtype: np.dtype) -> np.ndarray:
    floats = keras.utils.img_to_array(pixels, dtype=dtype.name)
    return np.asarray(keras.applications.imagenet_utils.preprocess_input(floats, mode=mode))


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16])
@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
def test_every_byte_becomes_the_number_that_keras_makes_of_it(
    mode: Scaling, dtype: np.dtype
) -> None:
    order: Literal["rgb", "bgr"] = "bgr" if mode == "caffe" else "rgb"
    wanted = replace(WANTED, scaling=mode, color_order=order)

    tensor = to_tensor([EVERY_BYTE], wanted, dtype)

    np.testing.assert_array_equal(tensor[0], keras_has(EVERY_BYTE, mode, dtype), strict=True)


@pytest.mark.parametrize("mode", ["tf", "caffe", "torch", "none"])
def test_the_color_order_turns_channels_round_and_changes_no_number(mode: Scaling) -> None:
    wanted = replace(WANTED, scaling=mode)

    straight = to_tensor([EVERY_BYTE], replace(wanted, color_order="rgb"), FLOAT32)
    turned = to_tensor([EVERY_BYTE], replace(wanted, color_order="bgr"), FLOAT32)

    np.testing.assert_array_equal(turned, straight[..., ::-1])


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16, UINT8])
def test_without_scaling_pixels_stay_as_they_are(dtype: np.dtype) -> None:
    tensor = to_tensor([EVERY_BYTE], replace(WANTED, scaling="none"), dtype)

    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor[0], EVERY_BYTE)


def test_several_pictures_become_one_batch_in_their_order() -> None:
    first, second = EVERY_BYTE, EVERY_BYTE[::-1]

    batch = to_tensor([first, second], WANTED, FLOAT32)

    assert batch.shape == (2, 16, 48, 3)
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch[1], to_tensor([second], WANTED, FLOAT32)[0])


def test_grayscale_has_one_channel() -> None:
    wanted = replace(WANTED, color_mode="grayscale")

    assert to_tensor([EVERY_BYTE[..., :1]], wanted, FLOAT32).shape == (1, 16, 48, 1)


@pytest.mark.parametrize(("dtype", "largest"), [(FLOAT32, 65535), (FLOAT16, 65504), (UINT8, 255)])
def test_sixteen_bit_grey_is_held_as_far_as_the_tensor_can(dtype: np.dtype, largest: int) -> None:
    wanted = Preprocessing(height=1, width=2, scaling="none", color_mode="grayscale")

    tensor = to_tensor([np.array([[[7], [65535]]], np.uint16)], wanted, dtype)

    assert tensor[0, 0, :, 0].tolist() == [7, largest]


def test_the_pixels_that_were_given_are_left_as_they_were() -> None:
    pixels = EVERY_BYTE.copy()
    pixels.flags.writeable = False

    to_tensor([pixels], WANTED, FLOAT32)

    np.testing.assert_array_equal(pixels, EVERY_BYTE)
