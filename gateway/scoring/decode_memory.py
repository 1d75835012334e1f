"""How much memory decoding a picture takes, known before it is decoded.

The factors are Pillow's and its libraries' own, found in their sources and held to measurement by
test_decode_memory.py: bytes for each pixel that stay while the picture is worked on, and bytes
that decoding needs on top. docs/decisions has the table.
"""

from math import ceil

from PIL import ImageFile, JpegImagePlugin

from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.orientation import may_turn
from gateway.scoring.picture_file import has_several_passes

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Bytes in which Pillow keeps a pixel; all other modes that the readers give take four."""

_KEPT_BY_READER = {"WEBP": 8}
"""Beside the picture: WebP's two canvases."""

_WHILE_DECODING = {"webp": 4, "bmp_rle": 3}
"""WebP hands over one more copy; BMP's run lengths are unpacked into two buffers."""

_FIXED = 1024 * 1024
"""Rows, tables and buffers of a decoder, whatever the picture's size."""


def memory_needed(reader: ImageFile.ImageFile, preprocessing: Preprocessing) -> int:
    """Bytes, at most, that `decode` takes at once on top of the file."""
    width, height = reader.size
    stored = _stored_bytes(reader)
    by_reader = width * height * _KEPT_BY_READER.get(reader.format or "", 0)
    kept = stored + by_reader + _copies(reader)
    turned = stored if preprocessing.exif_orientation and may_turn(reader) else 0
    return _FIXED + kept + max(_decoding(reader), turned + _preparing(reader, preprocessing))


def _stored_bytes(reader: ImageFile.ImageFile) -> int:
    """Bytes in which Pillow keeps the decoded picture itself."""
    width, height = reader.size
    return width * height * _STORED.get(reader.mode, 4)


def _copies(reader: ImageFile.ImageFile) -> int:
    """Copies of the file itself: WebP's reader makes two, a PNG or GIF made lean is one."""
    copies = {"WEBP": 2, "PNG": 1, "GIF": 1}.get(reader.format or "", 0)
    return copies * _file_size(reader)


def _file_size(reader: ImageFile.ImageFile) -> int:
    file = reader.fp
    if file is None:
        return 0
    position = file.tell()
    size = file.seek(0, 2)
    file.seek(position)
    return size


def _decoding(reader: ImageFile.ImageFile) -> int:
    if isinstance(reader, JpegImagePlugin.JpegImageFile):
        return _coefficients(reader) if has_several_passes(reader) else 0
    width, height = reader.size
    decoder = reader.tile[0].codec_name if reader.tile else (reader.format or "").lower()
    return width * height * _WHILE_DECODING.get(decoder, 0)


def _coefficients(reader: JpegImagePlugin.JpegImageFile) -> int:
    """Two bytes for each coefficient of each block of 8 by 8, edges filled up."""
    width, height = reader.size
    across = max(layer[1] for layer in reader.layer)
    down = max(layer[2] for layer in reader.layer)
    units = ceil(width / (8 * across)) * ceil(height / (8 * down))
    return sum(units * layer[1] * layer[2] * 64 * 2 for layer in reader.layer)


def _preparing(reader: ImageFile.ImageFile, preprocessing: Preprocessing) -> int:
    """Converting colors and scaling, which the nearest pixel has the other way round."""
    width, height = reader.size
    target = preprocessing.width * preprocessing.height
    scaled = 8 * target
    if preprocessing.resampling == "nearest":
        return scaled + target * _converting(reader, preprocessing)
    between = 4 * preprocessing.width * height
    return scaled + between + width * height * _converting(reader, preprocessing)


def _converting(reader: ImageFile.ImageFile, preprocessing: Preprocessing) -> int:
    """Bytes for each pixel."""
    sixteen_bit = reader.mode == "I;16"
    if preprocessing.transparency is not None and reader.has_transparency_data:
        return 20 if sixteen_bit else 10
    if preprocessing.color_mode == "rgb":
        return {"RGB": 0, "I;16": 6}.get(reader.mode, 4)
    if sixteen_bit:
        return 6 if preprocessing.sixteen_bit == "scale" else 0
    return {"L": 0, "CMYK": 5}.get(reader.mode, 1)
