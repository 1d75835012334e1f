"""Pictures made to hurt, sent to the real process; what reaches the model is looked at.

The stub model server has two versions: 1 wants what Keras gives, 2 asks for orientation, 16-bit
grey to scale, and a white background.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.support.footprint import LINUX, most_memory
from tests.support.hostile_pictures import (
    bmp_header_only,
    exif_that_is_cut_off,
    exif_that_loops,
    gif_of_many_pictures,
    gif_with_first_picture,
    jpeg_header_only,
    jpeg_of_many_scans,
    mangled,
    png_header_only,
    png_of_many_texts,
    png_with_broken_chunk,
    tiff_of_directories,
    webp_with_canvas,
    with_frame_marker,
    with_precision,
)
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
from tests.support.processes import Answer, Gateway, gateway, wait_until
from tests.support.stub_serving import CLOTHES, StubModel, StubServing, image_contract

SIZE = 16
PIXELS = 1_000_000
KERAS, ASKING = 1, 2
BROKEN = (422, "undecodable-image")
LARGE = (422, "image-too-large")


def asking() -> str:
    """The contract that asks for all that Keras does not do."""
    document = json.loads(image_contract(CLOTHES, size=SIZE, scaling="none"))
    document["preprocessing"] |= {
        "transparency": [255, 255, 255],
        "exif_orientation": True,
        "sixteen_bit": "scale",
    }
    return json.dumps(document)


@dataclass(frozen=True)
class SeeingModel(StubModel):
    """Keeps what it is asked."""

    input_shape: tuple[int, ...] = (-1, SIZE, SIZE, 3)
    contract: str = image_contract(CLOTHES, size=SIZE, scaling="none")
    seen: list[np.ndarray] = field(default_factory=list)

    def predict(self, inputs: Any) -> dict[str, np.ndarray]:
        pixels = np.frombuffer(inputs[self.input_name].tensor_content, np.float32)
        self.seen.append(pixels.reshape(SIZE, SIZE, 3))
        return super().predict(inputs)


class Running(NamedTuple):
    gateway: Gateway
    models: dict[int, SeeingModel]

    def ask(self, data: bytes, version: int = KERAS) -> Answer:
        """The answer, which comes inside the request's time."""
        path = f"/predict?version={version}"
        return self.gateway.ask("POST", path, data, content_type="image/png", timeout=7)

    def pixels(self, data: bytes, version: int = KERAS) -> np.ndarray:
        """What the model is asked for this picture."""
        answer = self.ask(data, version)
        assert answer.status == 200, answer.body
        assert list(answer.json) == list(CLOTHES)
        return self.models[version].seen[-1]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    keras = SeeingModel()
    models = {KERAS: keras, ASKING: replace(keras, contract=asking(), seen=[])}
    with (
        StubServing(versions=dict(models)) as stub,
        gateway(
            stub.address,
            request_timeout=3,
            max_image_pixels=PIXELS,
            max_image_bytes=4_000_000,
        ) as made,
    ):
        yield Running(made, models)


@pytest.fixture(autouse=True)
def _the_same_workers_go_on(running: Running) -> Iterator[None]:
    before = running.gateway.workers()
    yield
    assert running.gateway.workers() == before
    assert running.ask(PNG).status == 200


def picture(kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    return KINDS[kind](np.random.default_rng(0), size)


PNG, JPEG, WEBP = picture("png rgb"), picture("jpeg 4:2:0"), picture("webp")
HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">%s</svg>'


def cut_short(data: bytes) -> list[bytes]:
    return [data[: len(data) * tenth // 10] for tenth in range(1, 10)]


def other_formats() -> dict[str, bytes]:
    """Files of formats that are not read."""
    image = drawn(np.random.default_rng(0), (40, 30))
    files = {name: saved(image, name) for name in ("TIFF", "EPS", "JPEG2000", "ICO", "PPM", "TGA")}
    return files | {
        "BigTIFF": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + bytes(64),
        "TIFF that loops": tiff_of_directories(entries=1, following=8),
        "TIFF of 65535 entries": tiff_of_directories(entries=65535, following=0),
        "PSD": b"8BPS\0\x01" + bytes(6) + b"\0\x03\0\0\x40\0\0\0\x40\0\0\x08\0\x03" + bytes(12),
        "FITS": b"SIMPLE  =                    T".ljust(2880),
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "AVIF": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(64),
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(64),
        "MPEG": b"\0\0\x01\xb3" + bytes(64),
    }


REFUSED: dict[str, list[tuple[str, bytes, tuple[int, str]]]] = {
    "C1": [
        ("no byte", b"", (400, "invalid-request")),
        ("one byte", b"\xff", BROKEN),
        ("HTML", HTML, BROKEN),
    ],
    "C2": [
        (f"{name} at {tenth}0 %", data, BROKEN)
        for name, whole in (("JPEG", JPEG), ("PNG", PNG), ("WebP", WEBP))
        for tenth, data in enumerate(cut_short(whole), 1)
    ],
    "C3": [
        ("checksum of the header", png_with_broken_chunk(PNG, b"IHDR"), BROKEN),
        ("zlib", PNG.replace(b"IDAT\x78", b"IDAT\x00"), BROKEN),
    ],
    "C4": [
        ("JPEG without width", jpeg_header_only(0, 30), BROKEN),
        ("PNG without width", png_header_only(0, 30), BROKEN),
        ("PNG without height", png_header_only(30, 0), BROKEN),
        ("BMP without width", bmp_header_only(0, 30), BROKEN),
        ("GIF without width", gif_with_first_picture(0, 0, 0, 30), BROKEN),
    ],
    "C5": [("PNG of 1 by 200,000,000", png_header_only(1, 200_000_000), LARGE)],
    "C6": [("JPEG of 65,500 squared", jpeg_header_only(65500, 65500), LARGE)],
    "C7": [("PNG of 9,000 squared", saved(Image.new("1", (9000, 9000)), "PNG"), LARGE)],
    "C15": [
        ("GIF frame beyond its canvas", gif_with_first_picture(0, 0, 12_000, 12_000), LARGE),
        ("GIF frame far away", gif_with_first_picture(65534, 65534, 1, 1), LARGE),
        ("WebP canvas beyond its frame", webp_with_canvas(12_000, 12_000), LARGE),
    ],
    "C16": [
        ("SVG", SVG % b"<rect/>", BROKEN),
        ("SVG of a file", SVG % b'<image xlink:href="file:///etc/passwd"/>', BROKEN),
    ],
    "C17": [(name, data, BROKEN) for name, data in other_formats().items()],
    "C19": [
        ("12-bit JPEG", with_precision(JPEG, 12), BROKEN),
        ("lossless JPEG", with_frame_marker(JPEG, 0xC3), BROKEN),
    ],
    "C20": [("one row more than allowed", picture("png grey", (1000, 1001)), LARGE)],
}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(data, expected, id=f"{case} {name}", marks=pytest.mark.case(case))
        for case, rows in REFUSED.items()
        for name, data, expected in rows
    ],
)
def test_what_is_no_good_picture_is_refused(
    running: Running, data: bytes, expected: tuple[int, str]
) -> None:
    asked = len(running.models[KERAS].seen)

    answer = running.ask(data)

    status, slug = expected
    assert (answer.status, answer.json["type"]) == (status, f"urn:tensorgate:problem:{slug}")
    assert len(running.models[KERAS].seen) == asked


def extras() -> dict[str, tuple[str, bytes, bytes]]:
    """Files with more in them than a picture: the row, the file, and the picture alone."""
    text = png_of_many_texts(texts=20, unpacked=10_000_000)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = profile.replace(b"rXYZ", b"bXYZ", 1)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.class", HTML)
    plain = Image.open(io.BytesIO(PNG))
    gif = picture("gif")
    return {
        "compressed texts": ("C8", with_png_chunks(PNG, *text), PNG),
        "international text": (
            "C8",
            with_png_chunks(PNG, png_chunk(b"iTXt", b"k\0\x01\0\0\0" + text[0][12:])),
            PNG,
        ),
        "a color profile that unpacks to 10 MB": (
            "C8",
            with_png_chunks(PNG, png_chunk(b"iCCP", text[0][8:-4])),
            PNG,
        ),
        "a broken color profile": (
            "C14",
            with_png_chunks(PNG, png_chunk(b"iCCP", b"x\0\0no")),
            PNG,
        ),
        "a broken color profile in JPEG": (
            "C14",
            with_jpeg_segment(JPEG, 0xE2, b"ICC_PROFILE\0\x09\x01" + bytes(40)),
            JPEG,
        ),
        "a color profile of 1 MB": (
            "C14",
            saved(plain, "PNG", icc_profile=profile + bytes(1_000_000)),
            PNG,
        ),
        "a color profile of other primaries": ("C14", saved(plain, "PNG", icc_profile=wide), PNG),
        "EXIF in circles": ("C13", with_jpeg_segment(JPEG, 0xE1, exif_that_loops()), JPEG),
        "EXIF that is cut off": (
            "C13",
            with_jpeg_segment(JPEG, 0xE1, exif_that_is_cut_off()),
            JPEG,
        ),
        "EXIF of 64 KiB": (
            "C13",
            with_jpeg_segment(JPEG, 0xE1, exif_block(1) + bytes(65_000)),
            JPEG,
        ),
        "orientation 0": ("C13", saved(plain, "PNG", exif=exif_block(0)), PNG),
        "orientation 9": ("C13", saved(plain, "PNG", exif=exif_block(9)), PNG),
        "orientation 99": ("C13", saved(plain, "PNG", exif=exif_block(99)), PNG),
        "GIF and a Java archive": ("C18", gif + archive.getvalue(), gif),
        "JPEG and HTML": ("C18", with_jpeg_segment(JPEG, 0xFE, HTML) + HTML, JPEG),
        "PNG and an archive": ("C18", PNG + archive.getvalue(), PNG),
    }


@pytest.mark.parametrize(
    ("data", "alone"),
    [
        pytest.param(data, alone, id=f"{case} {name}", marks=pytest.mark.case(case))
        for name, (case, data, alone) in extras().items()
    ],
)
@pytest.mark.parametrize("version", [KERAS, ASKING])
def test_what_stands_beside_a_picture_changes_no_pixel_and_is_not_echoed(
    running: Running, data: bytes, alone: bytes, version: int
) -> None:
    expected = running.pixels(alone, version)

    np.testing.assert_array_equal(running.pixels(data, version), expected)

    assert HTML not in running.ask(data, version).body


@pytest.mark.skipif(not LINUX, reason="only Linux tells what memory a process has had at most")
@pytest.mark.case("C5", "C6", "C7", "C8", "C15")
def test_a_bomb_takes_no_memory(running: Running) -> None:
    bombs = [data for case in ("C5", "C6", "C7", "C15") for _, data, _ in REFUSED[case]]
    bombs += [data for case, data, _ in extras().values() if case == "C8"]
    for data in bombs:
        running.ask(data)
    before = most_memory(running.gateway.process.popen.pid)

    for data in bombs * 2:
        running.ask(data)

    assert most_memory(running.gateway.process.popen.pid) - before < 30_000_000


@pytest.mark.case("C9")
def test_sixteen_bit_grey_keeps_its_shade_where_the_contract_asks(running: Running) -> None:
    grey = sixteen_bit_png(np.full((20, 20, 1), 40000, np.uint16))

    assert abs(running.pixels(grey, ASKING) - 156).max() <= 1
    assert (running.pixels(grey, KERAS) == 255).all()


@pytest.mark.case("C10")
@pytest.mark.parametrize("version", [KERAS, ASKING])
def test_sixteen_bit_color_keeps_its_shades(running: Running, version: int) -> None:
    color = sixteen_bit_png(np.full((20, 20, 3), (40000, 0, 65535), np.uint16))

    assert abs(running.pixels(color, version) - np.array([156, 0, 255])).max() <= 1


def half_seen(mode: str) -> bytes:
    """Red, of which nothing is seen, as far as the mode can say so."""
    if mode in {"1", "L"}:
        return saved(Image.new(mode, (20, 20), 0), "PNG")
    if mode == "LA":
        return saved(Image.new("LA", (20, 20), (76, 0)), "PNG")
    if mode == "RGBA":
        return saved(Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "PNG")
    image = Image.new("P", (20, 20), 0)
    image.putpalette([255, 0, 0])
    return saved(image, "PNG", **({"transparency": 0} if mode == "P with a clear color" else {}))


RED, GREY, BLACK, WHITE = (255, 0, 0), (76, 76, 76), (0, 0, 0), (255, 255, 255)


@pytest.mark.case("C11")
@pytest.mark.parametrize(
    ("mode", "by_keras", "when_asked"),
    [
        ("1", BLACK, BLACK),
        ("L", BLACK, BLACK),
        ("LA", GREY, WHITE),
        ("P", RED, RED),
        ("P with a clear color", RED, WHITE),
        ("RGBA", RED, WHITE),
    ],
)
def test_what_is_not_seen_shows_the_background_where_the_contract_asks(
    running: Running, mode: str, by_keras: tuple[int, ...], when_asked: tuple[int, ...]
) -> None:
    data = half_seen(mode)

    assert (running.pixels(data, KERAS) == by_keras).all()
    assert (running.pixels(data, ASKING) == when_asked).all()


@pytest.mark.case("C12")
@pytest.mark.parametrize("kind", ["jpeg cmyk", "jpeg progressive cmyk", "jpeg kept rgb"])
def test_color_models_of_print_are_read(running: Running, kind: str) -> None:
    """Pillow writes CMYK inverted, as Adobe's programs do."""
    data = picture(kind)
    expected = Image.open(io.BytesIO(data)).convert("RGB").resize((SIZE, SIZE), 0)

    np.testing.assert_array_equal(running.pixels(data), np.asarray(expected))


@pytest.mark.case("C12")
def test_cmyk_turned_to_luminance_and_color_is_read(running: Running) -> None:
    """YCCK: the file says with its Adobe segment that the first three are Y, Cb and Cr."""
    cmyk = saved(Image.new("CMYK", (20, 20), (0, 0, 0, 0)), "JPEG")
    ycck = cmyk.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\x02")
    assert ycck != cmyk

    pixels = running.pixels(ycck)

    expected = Image.open(io.BytesIO(ycck)).convert("RGB").resize((SIZE, SIZE), 0)
    np.testing.assert_array_equal(pixels, np.asarray(expected))


@pytest.mark.case("C13")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_held_any_way_is_asked_upright_where_the_contract_asks(
    running: Running, orientation: int
) -> None:
    upright = drawn(np.random.default_rng(1), (SIZE, SIZE))
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    held = upright
    for turn in turns.get(orientation, []):
        held = held.transpose(turn)

    pixels = running.pixels(saved(held, "PNG", exif=exif_block(orientation)), ASKING)

    np.testing.assert_array_equal(pixels, np.asarray(upright))


@pytest.mark.case("C15")
@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_picture_is_asked(running: Running, file_format: str) -> None:
    red, blue = Image.new("RGB", (20, 20), RED), Image.new("RGB", (20, 20), (0, 0, 255))

    data = saved(red, file_format, save_all=True, append_images=[blue], lossless=True)

    assert (running.pixels(data) == RED).all()


@pytest.mark.case("C15")
def test_of_ten_thousand_pictures_the_first_is_asked(running: Running) -> None:
    assert (running.pixels(gif_of_many_pictures(10_000)) == RED).all()


@pytest.mark.case("C17")
def test_a_jpeg_of_several_pictures_counts_as_the_first(running: Running) -> None:
    """Many phones write them."""
    first = drawn(np.random.default_rng(3), (40, 30))
    second = drawn(np.random.default_rng(4), (40, 30))

    several = saved(first, "MPO", save_all=True, append_images=[second])

    np.testing.assert_array_equal(running.pixels(several), running.pixels(saved(first, "JPEG")))


@pytest.mark.case("C19")
def test_a_picture_of_endless_scans_is_stopped_and_gives_its_memory_back(running: Running) -> None:
    answer = running.ask(jpeg_of_many_scans(side=1000, scans=60_000))

    assert (answer.status, answer.json["type"]) == (504, "urn:tensorgate:problem:deadline-exceeded")
    none = "\ntensorgate_decode_budget_in_use_bytes 0.0\n"
    wait_until(lambda: none in running.gateway.metrics(), "decoding has ended", seconds=2)


@pytest.mark.case("C19")
def test_a_jpeg_of_another_coding_is_read_or_refused(running: Running) -> None:
    """libjpeg-turbo reads arithmetic coding, and finds nonsense in these bytes or nothing."""
    assert running.ask(with_frame_marker(JPEG, 0xC9)).status in {200, 422}


@pytest.mark.case("C20")
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (1, PIXELS), (1000, 1000)])
def test_extreme_sides_and_as_many_pixels_as_allowed_are_read(
    running: Running, size: tuple[int, int]
) -> None:
    running.pixels(saved(Image.new("L", size, 9), "PNG"))


@pytest.mark.case("C21")
def test_a_mangled_picture_is_read_or_refused(running: Running) -> None:
    kinds = sorted(KINDS)
    for seed in range(300):
        random = np.random.default_rng(seed)
        answer = running.ask(mangled(random, picture(kinds[seed % len(kinds)], (20, 15))))
        slug = "" if answer.status == 200 else answer.json["type"].rpartition(":")[2]
        assert (answer.status, slug) in {(200, ""), BROKEN, LARGE}, seed
