"""Notices a decoder that gives other pixels than before.

Each release of Pillow brings its own libjpeg-turbo, libwebp and zlib. Where one of them decodes
differently, a model sees other numbers than it was trained on, and no comparison with Keras in
the same environment can tell. The files are committed, and so is what they decode to. When this
fails after an upgrade, look at the pixels: if the new ones are right, say so in the CHANGELOG and
write the expected values anew:

    python -m tests.support.golden_pictures
"""

import json

import pytest
from PIL import features

from tests.support.golden_pictures import DIRECTORY, EXPECTED, digest

RECORDED = json.loads(EXPECTED.read_text(encoding="utf-8"))
LIBRARIES = {name: features.version(name) for name in ("pil", "libjpeg_turbo", "webp", "zlib")}


@pytest.mark.parametrize("name", sorted(RECORDED["pixels"]))
def test_a_committed_file_decodes_to_the_pixels_it_always_had(name: str) -> None:
    assert digest((DIRECTORY / name).read_bytes()) == RECORDED["pixels"][name], (
        f"decoded by {LIBRARIES}, recorded with {RECORDED['libraries']}"
    )


def test_every_committed_file_has_its_pixels_recorded() -> None:
    files = {path.name for path in DIRECTORY.iterdir() if path != EXPECTED}

    assert files == set(RECORDED["pixels"])
