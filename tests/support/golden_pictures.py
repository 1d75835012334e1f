"""Committed files and the pixels they decode to; run it to write both anew where they lack."""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import features

from gateway.deadline import Deadline
from gateway.scoring.contract_document import Preprocessing, Resampling
from gateway.scoring.images import ImageLimits, decode
from tests.support.pictures import KINDS

DIRECTORY = Path(__file__).parents[1] / "data" / "golden_pictures"
EXPECTED = DIRECTORY / "expected.json"
CHOSEN = {
    "baseline-420.jpg": "jpeg 4:2:0",
    "baseline-422.jpg": "jpeg 4:2:2",
    "progressive-420.jpg": "jpeg progressive 4:2:0",
    "progressive-444.jpg": "jpeg progressive 4:4:4",
    "grey.jpg": "jpeg grey",
    "cmyk.jpg": "jpeg cmyk",
    "lossy.webp": "webp",
    "alpha.webp": "webp with alpha",
    "rgb.png": "png rgb",
}
FILTERS: tuple[Resampling, ...] = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


def digest(data: bytes) -> str:
    """One value for what the file decodes to, as it is and through each filter."""
    pixels = hashlib.sha256()
    for resampling in FILTERS:
        for width, height in ((61, 47), (29, 83)):
            wanted = Preprocessing(height, width, "none", resampling=resampling)
            limits = ImageLimits(max_bytes=100_000, max_pixels=10_000)
            pixels.update(decode(data, wanted, limits, Deadline.after(60)).tobytes())
    return pixels.hexdigest()


def main() -> None:
    recorded = {}
    for number, (name, kind) in enumerate(CHOSEN.items()):
        path = DIRECTORY / name
        if not path.exists():
            path.write_bytes(KINDS[kind](np.random.default_rng(number), (61, 47)))
        recorded[name] = digest(path.read_bytes())
    libraries = {name: features.version(name) for name in ("pil", "libjpeg_turbo", "webp", "zlib")}
    document = {"libraries": libraries, "pixels": recorded}
    EXPECTED.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
