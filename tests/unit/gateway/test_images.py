import io
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from gateway.deadline import Deadline
from gateway.errors import DeadlineExceeded, ImageTooLarge, Overloaded, UndecodableImage
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.images import ImageLimits, decode
from tests.support.pictures import (
    KINDS,
    drawn,
    exif_block,
    png_chunk,
    saved,
    sixteen_bit_png,
    with_jpeg_segment,
    with_png_chunks,
)

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=25_000_000)
PLAIN = Preprocessing(height=24, width=32, scaling="none")
RED = (255, 0, 0)


def in_time() -> Deadline:
    return Deadline.after(60)


def decoded(data: bytes, wanted: Preprocessing = PLAIN, **changes: Any) -> np.ndarray:
    return decode(data, replace(wanted, **changes), LIMITS, in_time())


def picture(size: tuple[int, int] = (50, 40), mode: str = "RGB") -> Image.Image:
    return drawn(np.random.default_rng(5), size, mode)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_bytes_of_the_contracts_size(kind: str) -> None:
    pixels = decoded(KINDS[kind](np.random.default_rng(0), (50, 40)))

    assert pixels.shape == (24, 32, 3)
    assert pixels.dtype == np.uint8


def test_the_right_decoder_is_chosen_by_the_bytes_and_nothing_else() -> None:
    plain = picture()

    exact = {decoded(saved(plain, each)).tobytes() for each in ("PNG", "BMP")}

    assert len(exact) == 1


def test_of_an_animation_the_first_picture_is_read() -> None:
    red, blue = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), (0, 0, 255))

    for file_format in ("GIF", "PNG", "WEBP"):
        data = saved(red, file_format, save_all=True, append_images=[blue], lossless=True)
        assert decoded(data)[0, 0].tolist() == list(RED)


class TestLimits:
    def test_as_many_bytes_as_allowed_are_read_and_one_more_is_refused_with_both_numbers(
        self,
    ) -> None:
        data = saved(picture(), "PNG")

        decode(data, PLAIN, replace(LIMITS, max_bytes=len(data)), in_time())

        with pytest.raises(ImageTooLarge, match=f"{len(data)} bytes, and at most {len(data) - 1}"):
            decode(data, PLAIN, replace(LIMITS, max_bytes=len(data) - 1), in_time())

    @pytest.mark.parametrize("kind", ["jpeg 4:2:0", "png rgb", "webp", "gif", "bmp"])
    def test_as_many_pixels_as_allowed_are_decoded_and_one_more_is_refused(self, kind: str) -> None:
        data = KINDS[kind](np.random.default_rng(0), (50, 40))

        decode(data, PLAIN, replace(LIMITS, max_pixels=2000), in_time())

        with pytest.raises(ImageTooLarge, match="50 by 40 pixels, and at most 1999"):
            decode(data, PLAIN, replace(LIMITS, max_pixels=1999), in_time())

    def test_a_deadline_that_is_over_is_said_before_anything_is_decoded(self) -> None:
        with pytest.raises(DeadlineExceeded):
            decode(saved(picture(), "PNG"), PLAIN, LIMITS, Deadline.after(0))


class TestBudget:
    def test_memory_is_held_while_a_picture_is_decoded_and_given_back(self) -> None:
        budget = DecodeBudget(100_000_000)

        decode(saved(picture(), "PNG"), PLAIN, LIMITS, in_time(), budget)

        assert budget.in_use() == 0

    def test_memory_is_given_back_when_the_picture_is_broken(self) -> None:
        budget = DecodeBudget(100_000_000)

        with pytest.raises(UndecodableImage):
            decode(saved(picture(), "PNG")[:-100], PLAIN, LIMITS, in_time(), budget)

        assert budget.in_use() == 0

    def test_a_picture_that_needs_more_than_the_whole_budget_is_too_large(self) -> None:
        budget = DecodeBudget(5_000_000)
        data = saved(Image.new("RGB", (2000, 2000)), "JPEG")

        with pytest.raises(ImageTooLarge, match="MiB"):
            decode(data, PLAIN, LIMITS, in_time(), budget)

    def test_a_picture_for_which_no_memory_comes_free_meets_an_overloaded_gateway(self) -> None:
        budget = DecodeBudget(5_000_000)

        with budget.take(5_000_000, in_time()), pytest.raises(Overloaded):
            decode(saved(picture(), "PNG"), PLAIN, LIMITS, Deadline.after(0.1), budget)

    def test_a_thin_picture_that_would_be_spread_over_gigabytes_is_too_large(self) -> None:
        budget = DecodeBudget(512 * 1024 * 1024)
        thin = saved(Image.new("L", (1, 5_000_000)), "PNG")

        with pytest.raises(ImageTooLarge, match="MiB"):
            decode(thin, replace(PLAIN, resampling="lanczos"), LIMITS, in_time(), budget)


class TestOrientation:
    @pytest.mark.parametrize("number", range(10))
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
    def test_asked_for_it_turns_the_picture_as_pillow_would(
        self, number: int, file_format: str, resampling: Any
    ) -> None:
        data = saved(picture(), file_format, exif=exif_block(number))
        turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))

        pixels = decoded(data, exif_orientation=True, resampling=resampling)

        expected = decoded(saved(turned, "PNG"), resampling=resampling)
        np.testing.assert_array_equal(pixels, expected)

    def test_by_default_it_is_not_looked_at_as_in_keras(self) -> None:
        upside_down = saved(picture(), "PNG", exif=exif_block(3))

        np.testing.assert_array_equal(decoded(upside_down), decoded(saved(picture(), "PNG")))

    @pytest.mark.parametrize(
        "exif",
        [
            b"",
            b"Exif\0\0",
            b"Exif\0\0II*\0",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0XX*\0\x08\0\0\0\x01\0",
            b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
        ],
    )
    def test_broken_exif_leaves_the_picture_as_it_is(self, exif: bytes) -> None:
        plain = saved(picture(), "JPEG")

        pixels = decoded(with_jpeg_segment(plain, 0xE1, exif), exif_orientation=True)

        np.testing.assert_array_equal(pixels, decoded(plain))


def half_transparent(mode: str) -> bytes:
    """Two pixels: one seen, one not."""
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 255, 0])
        image.putpixel((1, 0), 1)
        return saved(image, "PNG", transparency=1)
    if mode == "P with alphas":
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 255, 0])
        image.putpixel((1, 0), 1)
        return saved(image, "PNG", transparency=b"\xff\x00")
    if mode == "RGBA":
        image = Image.new("RGBA", (2, 1), (*RED, 255))
        image.putpixel((1, 0), (0, 255, 0, 0))
        return saved(image, "PNG")
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), (0, 255, 0))
    return saved(image, "PNG", transparency=(0, 255, 0))


class TestTransparency:
    WANTED = Preprocessing(height=1, width=2, scaling="none")

    @pytest.mark.parametrize("mode", ["P", "P with alphas", "RGBA", "RGB"])
    def test_a_background_shows_where_nothing_is_seen(self, mode: str) -> None:
        pixels = decoded(half_transparent(mode), self.WANTED, transparency=(1, 2, 3))

        assert pixels.tolist() == [[list(RED), [1, 2, 3]]]

    @pytest.mark.parametrize("mode", ["P", "P with alphas", "RGBA", "RGB"])
    def test_without_one_hidden_colors_show_as_in_keras(self, mode: str) -> None:
        assert decoded(half_transparent(mode), self.WANTED).tolist() == [[list(RED), [0, 255, 0]]]

    @pytest.mark.parametrize("alpha", range(0, 256, 15))
    def test_half_seen_colors_are_mixed_with_the_background(self, alpha: int) -> None:
        data = saved(Image.new("RGBA", (2, 1), (200, 100, 0, alpha)), "PNG")

        mixed = decoded(data, self.WANTED, transparency=(10, 20, 250))[0, 0].astype(float)

        share = alpha / 255
        expected = np.array([200, 100, 0]) * share + np.array([10, 20, 250]) * (1 - share)
        np.testing.assert_allclose(mixed, expected, atol=0.51)

    def test_grey_with_alpha_is_laid_on_the_background_too(self) -> None:
        data = saved(Image.new("LA", (2, 1), (90, 0)), "PNG")

        pixels = decoded(data, self.WANTED, transparency=(30, 30, 30), color_mode="grayscale")

        assert pixels.tolist() == [[[30], [30]]]

    @pytest.mark.parametrize("sixteen_bit", ["clip", "scale"])
    def test_of_sixteen_bit_grey_exactly_the_named_value_is_transparent(
        self, sixteen_bit: Any
    ) -> None:
        grey = sixteen_bit_png(np.array([[[40000], [40001]]], np.uint16))
        named = png_chunk(b"tRNS", struct.pack(">H", 40000))

        pixels = decoded(
            with_png_chunks(grey, named),
            self.WANTED,
            transparency=(1, 2, 3),
            sixteen_bit=sixteen_bit,
        )

        shown = {"clip": 255, "scale": 156}[sixteen_bit]
        assert pixels.tolist() == [[[1, 2, 3], [shown] * 3]]

    def test_opaque_pictures_do_not_notice(self) -> None:
        data = saved(picture(), "PNG")

        np.testing.assert_array_equal(decoded(data, transparency=RED), decoded(data))


class TestSixteenBitGrey:
    DATA = sixteen_bit_png(np.array([[[0], [255]], [[40000], [65535]]], np.uint16))
    WANTED = Preprocessing(height=2, width=2, scaling="none")

    def test_scaled_it_keeps_its_shades(self) -> None:
        pixels = decoded(self.DATA, self.WANTED, sixteen_bit="scale")

        assert pixels[..., 0].tolist() == [[0, 0], [156, 255]]

    def test_by_default_it_is_clipped_as_in_keras(self) -> None:
        assert decoded(self.DATA, self.WANTED)[..., 0].tolist() == [[0, 255], [255, 255]]

    def test_in_grayscale_it_keeps_its_values_by_default_as_in_keras(self) -> None:
        pixels = decoded(self.DATA, self.WANTED, color_mode="grayscale")

        assert pixels[..., 0].tolist() == [[0, 255], [40000, 65535]]

    def test_in_grayscale_it_is_scaled_where_the_contract_asks(self) -> None:
        pixels = decoded(self.DATA, self.WANTED, color_mode="grayscale", sixteen_bit="scale")

        assert pixels[..., 0].tolist() == [[0, 0], [156, 255]]
        assert pixels.dtype == np.uint8

    def test_scaled_it_equals_the_same_picture_saved_in_color(self) -> None:
        grey = np.random.default_rng(0).integers(0, 65536, (9, 7, 1), np.uint16)

        scaled = decoded(sixteen_bit_png(grey), sixteen_bit="scale", resampling="bicubic")

        color = decoded(sixteen_bit_png(np.repeat(grey, 3, axis=2)), resampling="bicubic")
        np.testing.assert_array_equal(scaled, color)


def truncations(data: bytes) -> list[bytes]:
    return [data[: len(data) * tenth // 10] for tenth in range(10)]


class TestBrokenPictures:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff",
            b"<html><body>404</body></html>",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"\x00" * 100,
            b"%!PS-Adobe-3.0 EPSF-3.0",
            b"RIFF\x04\0\0\0WAVE",
        ],
    )
    def test_what_is_no_picture_is_said_to_be_none_and_what_is_read_instead(
        self, data: bytes
    ) -> None:
        with pytest.raises(UndecodableImage, match="JPEG, PNG, WebP, GIF, BMP"):
            decoded(data)

    @pytest.mark.parametrize("file_format", ["TIFF", "ICO", "PPM", "TGA", "PCX", "JPEG2000", "DIB"])
    def test_formats_that_pillow_reads_and_we_do_not_are_refused(self, file_format: str) -> None:
        with pytest.raises(UndecodableImage, match="JPEG, PNG, WebP, GIF, BMP"):
            decoded(saved(picture(), file_format))

    @pytest.mark.parametrize("kind", KINDS)
    def test_cut_off_a_picture_is_refused_or_whole(self, kind: str) -> None:
        data = KINDS[kind](np.random.default_rng(0), (50, 40))
        whole = decoded(data)

        for cut_off in truncations(data):
            try:
                pixels = decoded(cut_off)
            except UndecodableImage:
                continue
            np.testing.assert_array_equal(pixels, whole)

    @pytest.mark.parametrize("kind", ["jpeg 4:2:0", "png rgb", "webp", "gif", "bmp"])
    def test_half_a_picture_is_refused(self, kind: str) -> None:
        data = KINDS[kind](np.random.default_rng(0), (50, 40))

        with pytest.raises(UndecodableImage, match="broken or cut off"):
            decoded(data[: len(data) // 2])

    def test_the_message_holds_none_of_the_strangers_bytes_and_the_log_has_the_reason(self) -> None:
        with pytest.raises(UndecodableImage) as error:
            decoded(saved(picture(), "PNG")[:200])

        assert "truncated" in error.value.log_detail
        assert "truncated" not in error.value.message

    def test_bytes_behind_a_picture_are_not_its_business(self) -> None:
        data = saved(picture(), "JPEG")

        np.testing.assert_array_equal(decoded(data + b"<html>PK\x03\x04"), decoded(data))


def test_one_pixel_and_one_row_are_pictures_too() -> None:
    sizes = [(1, 1), (1, 500), (500, 1)]
    makers: list[Callable[[tuple[int, int]], bytes]] = [
        lambda size: saved(picture(size), "PNG"),
        lambda size: saved(picture(size), "JPEG"),
    ]

    for make in makers:
        for size in sizes:
            assert math.prod(decoded(make(size), resampling="lanczos").shape) == 24 * 32 * 3
