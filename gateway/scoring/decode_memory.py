"""How much memory decoding a picture takes."""

from PIL import ImageFile

from gateway.scoring.contract_document import Preprocessing


def memory_needed(reader: ImageFile.ImageFile, preprocessing: Preprocessing) -> int:
    """Bytes, at most, that decoding takes on top of the file."""
    width, height = reader.size
    return 20 * width * height + 8 * preprocessing.width * max(height, preprocessing.height)
