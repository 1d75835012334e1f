import io
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from gateway.deadline import Deadline
from gateway.errors import DeadlineExceeded, ImageTooLarge, UndecodableImage
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.images import ImageLimits, decode
from gateway.scoring.picture_file import open_picture
from tests.support.decode_peaks import status
from tests.support.hostile_pictures import (
    bmp_header_only,
    bmp_with_run_lengths,
    exif_that_is_cut_off,
    exif_that_loops,
    gif_of_many_pictures,
    gif_with_first_picture,
    jpeg_header_only,
    jpeg_of_many_scans,
    jpeg_of_separate_scans,
    mangled,
    png_header_only,
    png_of_many_texts,
    webp_with_canvas,
)
from tests.support.pictures import (
    KINDS,
    png_chunk,
    saved,
    with_jpeg_segment,
    with_png_chunks,
)

LINUX = Path("/proc/self/status").exists()
LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=1_000_000)
PLAIN = Preprocessing(height=16, width=16, scaling="none")
UPRIGHT_ON_WHITE = replace(
    PLAIN, resampling="bicubic", transparency=(255, 255, 255), exif_orientation=True
)
CUT_SHORT = ("jpeg progressive 4:4:4", "png rgb", "webp lossless")
SMALL = {kind: KINDS[kind](np.random.default_rng(0), (20, 15)) for kind in KINDS}


def decoded(data: bytes, wanted: Preprocessing = PLAIN) -> np.ndarray:
    return decode(data, wanted, LIMITS, Deadline.after(60))


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(jpeg_header_only(65500, 65500), id="jpeg"),
        pytest.param(png_header_only(1, 2**31 - 1), id="png, tall"),
        pytest.param(png_header_only(2**31 - 1, 2**31 - 1), id="png"),
        pytest.param(bmp_header_only(2**31 - 1, 2**31 - 1), id="bmp"),
        pytest.param(gif_with_first_picture(0, 0, 65535, 65535), id="gif"),
        pytest.param(gif_with_first_picture(0, 0, 12_000, 12_000), id="gif, past the warning"),
        pytest.param(gif_with_first_picture(65534, 65534, 1, 1), id="gif, far away"),
        pytest.param(webp_with_canvas(2**24, 2**24), id="webp"),
        pytest.param(webp_with_canvas(12_000, 12_000), id="webp, past the warning"),
    ],
)
def test_an_announced_size_is_refused_before_a_pixel_is_decoded(bomb: bytes) -> None:
    with pytest.raises(ImageTooLarge, match="pixels, and at most 1000000"):
        decoded(bomb)


@pytest.mark.parametrize(
    "liar",
    [
        pytest.param(jpeg_header_only(600, 600), id="jpeg"),
        pytest.param(png_header_only(600, 600), id="png"),
        pytest.param(bmp_header_only(600, 600), id="bmp"),
        pytest.param(jpeg_header_only(0, 600), id="jpeg without width"),
        pytest.param(png_header_only(0, 600), id="png without width"),
        pytest.param(bmp_header_only(0, 600), id="bmp without width"),
    ],
)
def test_a_size_without_its_pixels_is_a_broken_picture(liar: bytes) -> None:
    with pytest.raises(UndecodableImage):
        decoded(liar)


def test_a_real_bomb_is_refused_by_its_header() -> None:
    bomb = saved(Image.new("1", (9000, 9000)), "PNG")
    assert len(bomb) < 50_000

    with pytest.raises(ImageTooLarge, match="9000 by 9000"):
        decoded(bomb)


def test_a_picture_of_thousands_of_scans_is_stopped_by_its_deadline() -> None:
    endless = jpeg_of_many_scans(side=1000, scans=20_000)

    with pytest.raises(DeadlineExceeded):
        decode(endless, PLAIN, LIMITS, Deadline.after(0.2))


def test_a_baseline_picture_in_separate_scans_counts_as_much_as_a_progressive_one() -> None:
    side = 992
    data = jpeg_of_separate_scans(side)
    assert (decoded(data) == 128).all()
    coefficients = side * side * 3 * 2
    pixels = side * side * 4

    with pytest.raises(ImageTooLarge):
        decode(data, PLAIN, LIMITS, Deadline.after(60), DecodeBudget(pixels + coefficients - 1))


def test_a_picture_that_python_would_unpack_byte_by_byte_is_refused_when_it_is_large() -> None:
    small, large = bmp_with_run_lengths(30, 20), bmp_with_run_lengths(4001, 1000)
    allowed = ImageLimits(max_bytes=10_000_000, max_pixels=25_000_000)

    assert (decode(small, PLAIN, allowed, Deadline.after(60)) == (255, 0, 0)).all()
    with pytest.raises(ImageTooLarge, match="4001 by 1000 pixels, and at most 4000000"):
        decode(large, PLAIN, allowed, Deadline.after(60))


@pytest.mark.skipif(not LINUX, reason="only Linux tells a process what memory it has")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_opening_a_picture_reserves_no_memory_for_its_pixels() -> None:
    """A request that waits for its part of the budget must not hold it already."""
    pictures = [gif_with_first_picture(0, 0, 12_000, 12_000), webp_with_canvas(12_000, 12_000)]
    before = status("VmRSS")

    readers = [open_picture(data, Deadline.after(60)) for data in pictures]

    assert status("VmRSS") - before < 50_000_000
    assert {reader.size for reader in readers} == {(12_000, 12_000)}


@pytest.mark.skipif(not LINUX, reason="only Linux tells a process what memory it has")
def test_an_error_that_is_kept_keeps_no_pixels_with_it() -> None:
    """A request of several pictures keeps the error of each until all are done."""
    allowed = ImageLimits(max_bytes=10_000_000, max_pixels=25_000_000)
    side = 1000
    cut_off = [KINDS[kind](np.random.default_rng(0), (side, side))[:-50] for kind in CUT_SHORT]
    kept: list[UndecodableImage] = []
    before = status("VmRSS")

    for data in cut_off * 5:
        with pytest.raises(UndecodableImage) as error:
            decode(data, UPRIGHT_ON_WHITE, allowed, Deadline.after(60))
        kept.append(error.value)

    assert status("VmRSS") - before < 5 * side * side * 4


def test_texts_that_unpack_to_gigabytes_are_not_unpacked() -> None:
    plain = SMALL["png rgb"]
    bombs = png_of_many_texts(texts=100, unpacked=10_000_000)

    np.testing.assert_array_equal(decoded(with_png_chunks(plain, *bombs)), decoded(plain))


def test_a_broken_color_profile_or_animation_does_not_hide_a_good_picture() -> None:
    plain = SMALL["png rgb"]
    broken = [png_chunk(b"iCCP", b"x\0\0not zlib"), png_chunk(b"acTL", b"\0")]

    np.testing.assert_array_equal(decoded(with_png_chunks(plain, *broken)), decoded(plain))


def test_of_ten_thousand_pictures_the_first_is_read() -> None:
    pixels = decoded(gif_of_many_pictures(10_000))

    assert (pixels == (255, 0, 0)).all()


@pytest.mark.parametrize("wanted", [PLAIN, UPRIGHT_ON_WHITE])
def test_exif_that_leads_in_circles_is_walked_once(wanted: Preprocessing) -> None:
    plain = SMALL["jpeg 4:2:0"]
    circling = with_jpeg_segment(plain, 0xE1, exif_that_loops())

    np.testing.assert_array_equal(decoded(circling, wanted), decoded(plain, wanted))


@pytest.mark.parametrize("wanted", [PLAIN, UPRIGHT_ON_WHITE])
def test_broken_exif_is_no_warning_and_no_error(wanted: Preprocessing) -> None:
    plain = SMALL["jpeg 4:2:0"]
    broken = with_jpeg_segment(plain, 0xE1, exif_that_is_cut_off())

    with pytest.warns(UserWarning, match="Tag data larger"):
        Image.open(io.BytesIO(broken))
    np.testing.assert_array_equal(decoded(broken, wanted), decoded(plain, wanted))


@given(st.sampled_from(sorted(SMALL)), st.integers(0, 2**32), st.booleans())
@settings(
    max_examples=600,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_a_mangled_picture_is_decoded_or_refused_and_nothing_else(
    kind: str, seed: int, plain: bool
) -> None:
    data = mangled(np.random.default_rng(seed), SMALL[kind])
    wanted = PLAIN if plain else UPRIGHT_ON_WHITE

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            pixels = decoded(data, wanted)
        except (UndecodableImage, ImageTooLarge):
            pixels = np.zeros((16, 16, 3), np.uint8)

    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert [str(warning.message) for warning in warned] == []


@given(st.binary(max_size=200), st.sampled_from(sorted(SMALL)), st.integers(8, 60))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_bytes_that_only_begin_like_a_picture_are_refused(
    tail: bytes, kind: str, kept: int
) -> None:
    with pytest.raises((UndecodableImage, ImageTooLarge)):
        decoded(SMALL[kind][:kept] + tail)


def test_pillows_own_settings_stay_as_they_were() -> None:
    def settings_now() -> tuple[object, ...]:
        return (
            Image.MAX_IMAGE_PIXELS,
            ImageFile.LOAD_TRUNCATED_IMAGES,
            ImageFile.MAXBLOCK,
            PngImagePlugin.MAX_TEXT_MEMORY,
            list(warnings.filters),
        )

    before = settings_now()
    decoded(SMALL["png rgb"])
    with pytest.raises(ImageTooLarge):
        decoded(png_header_only(2**31 - 1, 2**31 - 1))

    assert settings_now() == before


def test_threads_that_decode_at_once_do_not_disturb_each_other() -> None:
    expected = {kind: decoded(data) for kind, data in SMALL.items()}
    wrong: list[str] = []

    def work() -> None:
        for kind, data in SMALL.items():
            if not np.array_equal(decoded(data), expected[kind]):
                wrong.append(kind)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
