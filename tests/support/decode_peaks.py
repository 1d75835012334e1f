"""Measures what decoding takes, in a process of its own; run by test_decode_memory.py.

It prints for each kind of file and each way to prepare it the growth of the resident set's peak
and what memory_needed said. glibc is told by the caller to map every large block by itself, so
that what is given back is seen to be given back.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gateway.deadline import Deadline
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.decode_memory import memory_needed
from gateway.scoring.images import ImageLimits, decode
from gateway.scoring.picture_file import open_picture
from tests.support.hostile_pictures import bmp_with_run_lengths, jpeg_of_separate_scans
from tests.support.pictures import KINDS

SIZE = (1000, 1100)
ALIKE = (
    "jpeg 4:2:2",
    "jpeg kept rgb",
    "jpeg with restarts",
    "jpeg of several pictures",
    "png grey with a transparent value",
    "png palette of four",
    "png palette with alphas",
    "png 16-bit rgb",
    "png animated",
    "png animated with a picture of its own",
    "gif animated",
    "bmp 32-bit",
)
"""Kinds that are decoded like another one."""
LIMITS = ImageLimits(max_bytes=10**9, max_pixels=math.prod(SIZE))
WAYS = {
    "nearest": Preprocessing(299, 299, "tf"),
    "lanczos": Preprocessing(299, 512, "tf", resampling="lanczos"),
    "grayscale": Preprocessing(299, 299, "tf", resampling="box", color_mode="grayscale"),
    "on white, upright": Preprocessing(
        299,
        299,
        "tf",
        resampling="bicubic",
        transparency=(255, 255, 255),
        exif_orientation=True,
        sixteen_bit="scale",
    ),
}


def files() -> Iterator[tuple[str, bytes]]:
    """A file of each kind that takes memory in its own way."""
    for number, (kind, encode) in enumerate(KINDS.items()):
        if kind not in ALIKE:
            yield kind, encode(np.random.default_rng(number), SIZE)
    yield "jpeg in separate scans", jpeg_of_separate_scans(SIZE[0])
    yield "bmp with run lengths", bmp_with_run_lengths(*SIZE)


def main() -> None:
    warm = KINDS["png rgb"](np.random.default_rng(0), (8, 8))
    for way in WAYS.values():
        decode(warm, way, LIMITS, Deadline.after(60))
    for kind, data in files():
        for name, way in WAYS.items():
            with open_picture(data, Deadline.after(60)) as reader:
                needed = memory_needed(reader, way)
            print(json.dumps([kind, name, peak_of_decoding(data, way), needed]))


def peak_of_decoding(data: bytes, way: Preprocessing) -> int:
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    decode(data, way, LIMITS, Deadline.after(60))
    return status("VmHWM") - before


def status(field: str) -> int:
    """A size in /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
