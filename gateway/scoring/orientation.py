"""EXIF orientation: which way the camera was held (EXIF 3.0, tag 0x0112)."""

import struct

from PIL import Image, ImageFile

_TAG = 0x0112
_SHORT = 3

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(reader: ImageFile.ImageFile) -> Image.Image:
    """The picture turned as its EXIF orientation says; without one that is valid, as it is."""
    turn = _TURNS.get(orientation(reader.info.get("exif", b"")))
    return reader if turn is None else reader.transpose(turn)


def may_turn(reader: ImageFile.ImageFile) -> bool:
    """Whether `upright` may make another picture: a PNG's EXIF can stand behind its pixels."""
    return reader.format == "PNG" or orientation(reader.info.get("exif", b"")) in _TURNS


def orientation(exif: bytes) -> int:
    """The orientation's number in an EXIF block, 1 where it has none or is broken.

    Only the first directory is looked at, each entry once: nothing in it can be followed in a
    circle or unpacked.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(
                f"{order}HHIH", tiff, directory + 2 + 12 * entry
            )
            if (tag, kind, count) == (_TAG, _SHORT, 1):
                return int(value)
    except struct.error:
        pass
    return 1
