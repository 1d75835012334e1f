"""A picture's file, opened: its format recognised and its size known before a pixel is decoded.

Five formats are read, each by its own reader of Pillow's and by nothing else: whatever else Pillow
knows is never tried. A multi-picture JPEG, which many phones write, is read as the JPEG it starts
with; of an animation the first picture is read.

What a stranger's bytes could make Pillow do while it only opens a file is taken from it: WebP and
GIF readers reserve memory for a size that nobody has looked at yet, so those sizes are read here
first; a GIF's first picture is told not to be disposed of, for which its area would be filled; a
PNG's compressed texts are unpacked, so texts are dropped; a JPEG's EXIF is not parsed.
"""

import io
import re
import struct
from collections.abc import Callable, Iterator, Mapping

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from gateway.deadline import Deadline
from gateway.errors import UndecodableImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

BLOCK = 4096
"""Bytes that a decoder gets at once: between two blocks the deadline is looked at."""

SMALLEST_BLOCK = 512
"""The same for large JPEGs of several passes, of which 20 bytes can mean work on every pixel."""

LARGEST_BLOCK = 64 * 1024
"""The same for JPEGs of one pass, of which a byte means work on 256 pixels at most."""

RUN_LENGTH_PIXELS = 4_000_000
"""Pixels of a BMP with run lengths: Pillow unpacks them in Python, at 0.1 µs each."""

GIF_EXTENSION, GIF_PICTURE, GIF_END = b"!,;"
GIF_CONTROL = 0xF9
GIF_DISPOSAL = 0b00011100
_GIF_INTRODUCER = re.compile(rb"[!,;]")

Size = tuple[int, int]


class TimedFile(io.BytesIO):
    """A file in memory that cannot be read once the time is up.

    It is how a decoder written in C is stopped: a JPEG of 10,000 scans asks for its next block.
    """

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes.

        Raises:
            DeadlineExceeded: the time is up.
        """
        self._deadline.check("picture was decoded")
        return super().read(size)


class _JpegFile(JpegImagePlugin.JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Do without: it costs time, warns of broken EXIF, and pixels do not depend on it."""


def format_of(data: bytes) -> str | None:
    """The format that the bytes begin like, or None for all that is not read."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:15] == b"WEBPVP8":
        return "WEBP"
    return "BMP" if data.startswith(b"BM") else None


def announced_size(data: bytes) -> Size:
    """Width and height, where Pillow would reserve memory for them on opening; else (1, 1)."""
    measure = _SIZES.get(format_of(data) or "")
    return measure(data) if measure else (1, 1)


def open_picture(data: bytes, deadline: Deadline) -> ImageFile.ImageFile:
    """The file's reader, which knows format, mode and size and has decoded nothing.

    Raises:
        UndecodableImage: the bytes begin like none of the formats.
        DeadlineExceeded: the time is up.
        Exception: any other, by Pillow, when the file is broken.
    """
    name = format_of(data)
    if name is None:
        raise UndecodableImage(
            "This is no picture of a format that is read (JPEG, PNG, WebP, GIF, BMP): "
            "send the bytes of an image file."
        )
    lean = _LEAN.get(name, bytes)(data)
    reader = _READERS[name](TimedFile(lean, deadline))
    reader.decodermaxblock = _block(reader)
    return reader


def _block(reader: ImageFile.ImageFile) -> int:
    if not isinstance(reader, JpegImagePlugin.JpegImageFile):
        return BLOCK
    if not has_several_passes(reader):
        return LARGEST_BLOCK
    width, height = reader.size
    return max(SMALLEST_BLOCK, min(BLOCK, BLOCK * 1_000_000 // (width * height)))


def has_several_passes(reader: JpegImagePlugin.JpegImageFile) -> bool:
    """Whether libjpeg keeps all coefficients: progressive, or a first scan without all colors.

    The reader has stopped right behind the first scan's header (ITU-T T.81, B.2.3).
    """
    if reader.info.get("progressive") or reader.fp is None:
        return True
    behind = reader.fp.tell()
    length = 6 + 2 * reader.layers
    reader.fp.seek(max(0, behind - length - 2))
    header = reader.fp.read(length + 2)
    reader.fp.seek(behind)
    return header[:2] != b"\xff\xda" or header[4] != reader.layers


def most_pixels(reader: ImageFile.ImageFile, allowed: int) -> int:
    """How many pixels may be decoded: fewer than allowed where decoding is very slow."""
    run_lengths = any(tile.codec_name == "bmp_rle" for tile in reader.tile)
    return min(allowed, RUN_LENGTH_PIXELS) if run_lengths else allowed


def without_texts(data: bytes) -> bytes:
    """A PNG without its texts, color profile and animation, none of which changes a pixel.

    Pillow would unpack up to 64 MiB of text from a few kilobytes.
    """
    kept, start, position = [], 0, 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if kind in _PNG_EXTRAS:
            kept.append(data[start:position])
            start = end
        position = end
    return b"".join([*kept, data[start:]]) if kept else data


def _webp_size(data: bytes) -> Size:
    """The canvas; RFC 9649 has the layouts."""
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _gif_size(data: bytes) -> Size:
    """The screen, grown by the first picture where that reaches beyond, as Pillow grows it."""
    width, height = struct.unpack_from("<HH", data, 6)
    *_, (introducer, position) = _gif_blocks(data)
    if introducer != GIF_PICTURE:
        return width, height
    left, top, across, down = struct.unpack_from("<HHHH", data, position + 1)
    return max(width, left + across), max(height, top + down)


def without_disposal(data: bytes) -> bytes:
    """A GIF whose first picture stays: how it is disposed of changes only pictures behind it."""
    lean = bytearray(data)
    for introducer, position in _gif_blocks(data):
        control = introducer == GIF_EXTENSION and data[position + 1] == GIF_CONTROL
        if control and data[position + 2]:
            lean[position + 3] &= ~GIF_DISPOSAL
    return bytes(lean) if lean != data else data


def _gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """What stands before the first picture and that picture: each block's first byte and place."""
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while found := _GIF_INTRODUCER.search(data, position):
        position = found.start()
        yield data[position], position
        if data[position] != GIF_EXTENSION:
            return
        position = _after_blocks(data, position + 2)


def _after_blocks(data: bytes, position: int) -> int:
    while data[position]:
        position += 1 + data[position]
    return position + 1


_SIZES: Mapping[str, Callable[[bytes], Size]] = {"WEBP": _webp_size, "GIF": _gif_size}

_LEAN: Mapping[str, Callable[[bytes], bytes]] = {"PNG": without_texts, "GIF": without_disposal}

_READERS: Mapping[str, Callable[[TimedFile], ImageFile.ImageFile]] = {
    "JPEG": _JpegFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}

_PNG_EXTRAS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT"})
