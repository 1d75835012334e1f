"""Pictures for tests, generated: their content from a seed, their file in any form that is read."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

Size = tuple[int, int]
Encode = Callable[[np.random.Generator, Size], bytes]


def drawn(random: np.random.Generator, size: Size, mode: str = "RGB") -> Image.Image:
    """A picture with soft shapes, hard edges and noise, in RGB, RGBA, L, LA or CMYK."""
    width, height = size
    bands = len(Image.new(mode, (1, 1)).getbands())
    soft = random.integers(0, 256, (6, 7, bands), dtype=np.uint8)
    planes = [
        np.asarray(Image.fromarray(soft[:, :, band]).resize(size, Image.Resampling.BICUBIC))
        for band in range(bands)
    ]
    pixels = np.stack(planes, axis=-1).astype(np.int16)
    left, top = random.integers(0, width), random.integers(0, height)
    pixels[top : top + height // 3 + 1, left : left + width // 3 + 1] = random.integers(0, 256)
    pixels += random.integers(-20, 21, (height, width, 1), dtype=np.int16)
    bands_drawn = np.moveaxis(np.clip(pixels, 0, 255).astype(np.uint8), -1, 0)
    images = [Image.fromarray(np.ascontiguousarray(band)) for band in bands_drawn]
    return images[0] if mode == "L" else Image.merge(mode, images)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def sixteen_bit_png(pixels: np.ndarray) -> bytes:
    """A PNG of uint16 (height, width, 1 to 4): Pillow writes 16 bits only for grey."""
    height, width, bands = pixels.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_png_chunks(png: bytes, *chunks: bytes) -> bytes:
    """The PNG with further chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def with_jpeg_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """The JPEG with a further segment at its start."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + jpeg[2:]


def exif_block(orientation: int) -> bytes:
    """A minimal EXIF block that holds an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def _plain(file_format: str, mode: str = "RGB", **options: Any) -> Encode:
    return lambda random, size: saved(drawn(random, size, mode), file_format, **options)


def _several(file_format: str, mode: str = "RGB", **options: Any) -> Encode:
    def encode(random: np.random.Generator, size: Size) -> bytes:
        first, *others = (drawn(random, size, mode) for _ in range(3))
        return saved(first, file_format, save_all=True, append_images=others, **options)

    return encode


def _few_colors(random: np.random.Generator, size: Size, colors: int) -> Image.Image:
    return drawn(random, size).quantize(colors, Image.Quantize.FASTOCTREE)


def _palette(file_format: str, colors: int, **options: Any) -> Encode:
    return lambda random, size: saved(_few_colors(random, size, colors), file_format, **options)


def _palette_with_alphas(random: np.random.Generator, size: Size) -> bytes:
    alphas = random.integers(0, 256, 64, dtype=np.uint8).tobytes()
    return saved(_few_colors(random, size, 64), "PNG", transparency=alphas)


def _animated_gif(random: np.random.Generator, size: Size) -> bytes:
    first, *others = (_few_colors(random, size, 128) for _ in range(3))
    return saved(first, "GIF", save_all=True, append_images=others)


def _one_bit(file_format: str) -> Encode:
    return lambda random, size: saved(drawn(random, size, "L").convert("1"), file_format)


def _sixteen_bit(bands: int) -> Encode:
    def encode(random: np.random.Generator, size: Size) -> bytes:
        width, height = size
        coarse = np.asarray(drawn(random, size, "RGBA")).astype(np.uint16)[..., :bands] << 8
        return sixteen_bit_png(coarse | random.integers(0, 256, (height, width, bands), np.uint16))

    return encode


def _keyed(mode: str, transparency: Any) -> Encode:
    return lambda random, size: saved(drawn(random, size, mode), "PNG", transparency=transparency)


KINDS: Mapping[str, Encode] = {
    "jpeg 4:2:0": _plain("JPEG", quality=85, subsampling="4:2:0"),
    "jpeg 4:2:2": _plain("JPEG", quality=70, subsampling="4:2:2"),
    "jpeg 4:4:4": _plain("JPEG", quality=95, subsampling="4:4:4"),
    "jpeg kept rgb": _plain("JPEG", keep_rgb=True),
    "jpeg progressive 4:2:0": _plain("JPEG", progressive=True, subsampling="4:2:0"),
    "jpeg progressive 4:4:4": _plain("JPEG", progressive=True, subsampling="4:4:4"),
    "jpeg grey": _plain("JPEG", "L"),
    "jpeg progressive grey": _plain("JPEG", "L", progressive=True),
    "jpeg cmyk": _plain("JPEG", "CMYK"),
    "jpeg progressive cmyk": _plain("JPEG", "CMYK", progressive=True),
    "jpeg with restarts": _plain("JPEG", restart_marker_blocks=3),
    "jpeg of several pictures": _several("MPO"),
    "png 1-bit": _one_bit("PNG"),
    "png grey": _plain("PNG", "L", compress_level=1),
    "png grey with a transparent value": _keyed("L", 128),
    "png grey and alpha": _plain("PNG", "LA", compress_level=1),
    "png rgb": _plain("PNG", compress_level=1),
    "png rgb with a transparent color": _keyed("RGB", (128, 128, 128)),
    "png rgba": _plain("PNG", "RGBA", compress_level=1),
    "png palette": _palette("PNG", 256),
    "png palette of four": _palette("PNG", 4),
    "png palette with a transparent color": _palette("PNG", 16, transparency=3),
    "png palette with alphas": _palette_with_alphas,
    "png 16-bit grey": _sixteen_bit(1),
    "png 16-bit grey and alpha": _sixteen_bit(2),
    "png 16-bit rgb": _sixteen_bit(3),
    "png 16-bit rgba": _sixteen_bit(4),
    "png animated": _several("PNG", compress_level=1),
    "png animated with a picture of its own": _several("PNG", default_image=True, compress_level=1),
    "webp": _plain("WEBP", method=0),
    "webp lossless": _plain("WEBP", lossless=True, method=0),
    "webp with alpha": _plain("WEBP", "RGBA", method=0),
    "webp animated": _several("WEBP", "RGBA", method=0),
    "gif": _palette("GIF", 256),
    "gif grey": _plain("GIF", "L"),
    "gif with transparency": _palette("GIF", 64, transparency=5),
    "gif animated": _animated_gif,
    "bmp": _plain("BMP"),
    "bmp 32-bit": _plain("BMP", "RGBA"),
    "bmp grey": _plain("BMP", "L"),
    "bmp palette": _palette("BMP", 200),
    "bmp 1-bit": _one_bit("BMP"),
}
"""Every kind of file that is read, by a name that says what is in it."""
