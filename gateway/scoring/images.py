"""A picture's bytes become pixels as the contract says; by default exactly as Keras's load_img."""

from contextlib import closing, nullcontext

import numpy as np
from PIL import Image, ImageFile

from gateway.deadline import Deadline
from gateway.errors import GatewayError, ImageTooLarge, UndecodableImage
from gateway.scoring import allocator
from gateway.scoring.contract_document import Preprocessing, SixteenBit
from gateway.scoring.decode_limits import DecodeMemory, ImageLimits
from gateway.scoring.decode_memory import memory_needed
from gateway.scoring.orientation import upright
from gateway.scoring.picture_file import announced_size, most_pixels, open_picture
from gateway.scoring.scaling import to_tensor

__all__ = ["ImageLimits", "decode", "to_tensor"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


def decode(
    data: bytes,
    preprocessing: Preprocessing,
    limits: ImageLimits,
    deadline: Deadline,
    budget: DecodeMemory | None = None,
) -> np.ndarray:
    """The picture's pixels, scaled to the contract's size: (height, width, channels), uint8.

    16-bit grey under color_mode "grayscale" is uint16, as Keras keeps it, unless the contract asks
    for it to be scaled.

    Args:
        data: the file's bytes.
        preprocessing: the contract's.
        limits: what is refused before it is decoded.
        deadline: decoding ends there, at the next block of the file.
        budget: where given, the memory that decoding needs is held of it.

    Raises:
        ImageTooLarge: it has more bytes or pixels than the limits, or needs more than the budget.
        UndecodableImage: it is no picture of a format that is read, or a broken one.
        DeadlineExceeded: the time was up before it was decoded.
        Overloaded: no part of the budget came free in time.
    """
    limits.check_file(data)
    allocator.forget_failures()
    try:
        return _decode(data, preprocessing, limits, deadline, budget)
    except GatewayError:
        raise
    except Exception as error:  # noqa: BLE001 - see _foreign_error
        broken = _foreign_error(error)
    raise broken


def _foreign_error(error: Exception) -> GatewayError:
    """What an exception of Pillow's means to the caller.

    Its readers raise whatever a stranger's bytes lead them to, so that any exception that is not
    our own means a broken picture, unless memory ran out: libjpeg and libwebp then fail as they do
    with a broken picture. It is not chained: it would keep half a decoded picture in memory for as
    long as somebody keeps the error, as one of several pictures in a request does.
    """
    too_large = isinstance(error, MemoryError | Image.DecompressionBombError)
    too_large = too_large or allocator.has_failed()
    detail = f"{type(error).__name__}: {error}"
    if too_large:
        return ImageTooLarge("The picture is too large to be decoded.", log_detail=detail)
    return UndecodableImage(
        "The picture is broken or cut off, or of a kind that is not read: save it again as JPEG "
        "or PNG.",
        log_detail=detail,
    )


def _decode(
    data: bytes,
    preprocessing: Preprocessing,
    limits: ImageLimits,
    deadline: Deadline,
    budget: DecodeMemory | None,
) -> np.ndarray:
    deadline.check("picture was decoded")
    _check_pixels(announced_size(data), limits.max_pixels)
    with closing(open_picture(data, deadline)) as reader:
        _check_pixels(reader.size, most_pixels(reader, limits.max_pixels))
        needed = memory_needed(reader, preprocessing)
        with budget.take(needed, deadline) if budget else nullcontext():
            try:
                return _pixels(reader, preprocessing)
            finally:
                reader.close()


def _check_pixels(size: tuple[int, int], most: int) -> None:
    width, height = size
    if width * height > most:
        raise ImageTooLarge(
            f"The picture has {width} by {height} pixels, and at most {most} in all are decoded: "
            "send a smaller one."
        )


def _pixels(reader: ImageFile.ImageFile, preprocessing: Preprocessing) -> np.ndarray:
    """Decode, convert and scale, in Keras's order wherever the order can be seen in a pixel.

    The nearest pixel stays the same pixel whether colors are converted before or after it is
    chosen, and after there are fewer to convert.
    """
    reader.load()
    image: Image.Image = upright(reader) if preprocessing.exif_orientation else reader
    size = (preprocessing.width, preprocessing.height)
    if preprocessing.resampling == "nearest":
        image = _convert(image.resize(size, Image.Resampling.NEAREST), preprocessing)
    else:
        image = _convert(image, preprocessing).resize(size, _FILTERS[preprocessing.resampling])
    return np.asarray(image).reshape(preprocessing.height, preprocessing.width, -1)


def _convert(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The mode that Keras gives the picture: RGB, or L, or I;16 for 16-bit grey."""
    background = preprocessing.transparency
    if background is not None and image.has_transparency_data:
        image = _on_background(image, background, preprocessing.sixteen_bit)
    elif image.mode == "I;16" and preprocessing.sixteen_bit == "scale":
        image = _eight_bit(image)
    image.info.pop("transparency", None)
    if preprocessing.color_mode == "rgb":
        return image if image.mode == "RGB" else image.convert("RGB")
    return image if image.mode in ("L", "I;16", "I") else image.convert("L")


def _on_background(
    image: Image.Image, color: tuple[int, int, int], sixteen_bit: SixteenBit
) -> Image.Image:
    if image.mode == "I;16":
        alpha = _sixteen_bit_alpha(image)
        opaque = (_eight_bit(image) if sixteen_bit == "scale" else image).convert("RGB")
    else:
        opaque = image.convert("RGBA")
        alpha = opaque.getchannel("A")
    background = Image.new("RGB", image.size, color)
    background.paste(opaque, mask=alpha)
    return background


def _sixteen_bit_alpha(image: Image.Image) -> Image.Image:
    """Transparent where the grey is the one that the file names: Pillow compares 8 bits of it."""
    seen = np.asarray(image) != image.info["transparency"]
    return Image.fromarray(seen.astype(np.uint8) * 255)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit by its upper byte, as Pillow reads 16-bit color."""
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
