"""What garments lie on, in two families: training sees one, held-out pictures the other.

A background fills height x width x 3 from two colors, everything 0 to 1.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from model.clothing.noise import Field, clouds, smooth

Color = npt.NDArray[np.float32]
Canvas = npt.NDArray[np.float32]
Colors = tuple[Color, Color]
Background = Callable[[np.random.Generator, int, int, Colors], Canvas]


def _grid(height: int, width: int) -> tuple[Field, Field]:
    """Down and across, 0 to 1 over the width."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    return down / np.float32(width), across / np.float32(width)


def _mix(colors: Colors, share: Field) -> Canvas:
    """The first color with that share of the second."""
    part = np.clip(share, 0, 1)[..., None]
    return colors[0] * (1 - part) + colors[1] * part


def paper(_rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """One color."""
    return _mix(colors, np.zeros((height, width), np.float32))


def gradient(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """One color running into another, in any direction."""
    down, across = _grid(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (down - 0.6) * np.float32(np.sin(angle)) + (across - 0.5) * np.float32(np.cos(angle))
    return _mix(colors, (ramp + np.float32(0.6)) / np.float32(1.2))


def planks(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """A wooden floor, boards across or upright."""
    upright = rng.random() < 0.5
    rows, columns = (width, height) if upright else (height, width)
    down, _ = _grid(rows, columns)
    count = np.float32(rng.uniform(4, 9))
    board = np.floor(down * count * (columns / width))
    tones = rng.uniform(0, 0.35, 64).astype(np.float32)
    grain = smooth(rng, rows, columns, (80, 4)) * np.float32(0.16)
    gap = ((down * count * (columns / width)) % 1 < 0.04) * np.float32(0.5)
    share = tones[board.astype(int) % 64] + grain + gap
    return _mix(colors, share.T if upright else share)


def carpet(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """Short rough fibers."""
    fibers = rng.random((height // 2 + 1, width // 2 + 1), np.float32)
    rough = fibers.repeat(2, 0).repeat(2, 1)[:height, :width] * np.float32(0.5)
    return _mix(colors, rough + clouds(rng, height, width, 3) * np.float32(0.2))


def room(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """A wall above a floor, softly shaded."""
    down, _ = _grid(height, width)
    line = np.float32(rng.uniform(0.75, 1.15) * height / width / 1.33)
    share = (down > line) * np.float32(0.8) + clouds(rng, height, width, 2) * np.float32(0.1)
    return _mix(colors, share)


def slats(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """Blinds or corrugated metal at any angle."""
    down, across = _grid(height, width)
    angle, count = rng.uniform(0, np.pi), np.float32(rng.uniform(30, 110))
    along = down * np.float32(np.sin(angle)) + across * np.float32(np.cos(angle))
    return _mix(colors, np.sin(along * count) * np.float32(0.4) + np.float32(0.4))


def mosaic(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """A rug of patches in random tones."""
    rows, columns = (int(count) for count in rng.integers(4, 24, 2))
    tones = Image.fromarray(rng.random((rows, columns), np.float32) * np.float32(0.8))
    return _mix(colors, np.asarray(tones.resize((width, height), Image.Resampling.NEAREST)))


def grass(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """Blades lying crosswise."""
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    starts = rng.uniform(-20, [width, height], (260, 2))
    ends = starts + rng.normal(0, width * rng.uniform(0.05, 0.2), (260, 2))
    for start, end, tone in zip(starts, ends, rng.integers(40, 200, 260), strict=True):
        draw.line([*start, *end], fill=int(tone), width=int(rng.integers(1, 5)))
    return _mix(colors, np.asarray(image, np.float32) / np.float32(255))


def tiles(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """Square tiles with joints, laid straight or diagonally."""
    down, across = _grid(height, width)
    if rng.random() < 0.5:
        down, across = down + across, down - across
    count = np.float32(rng.uniform(4, 9))
    joint = ((down * count) % 1 < 0.06) | ((across * count) % 1 < 0.06)
    tones = rng.uniform(0, 0.2, (64, 64)).astype(np.float32)
    rows, columns = np.floor(down * count).astype(int), np.floor(across * count).astype(int)
    return _mix(colors, np.where(joint, np.float32(0.7), tones[rows % 64, columns % 64]))


def sheet(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """A crumpled bed sheet."""
    folds = np.abs(clouds(rng, height, width, 4)) + clouds(rng, height, width, 3) * np.float32(0.3)
    return _mix(colors, folds * np.float32(0.9))


def bricks(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """A brick wall."""
    down, across = _grid(height, width)
    count = np.float32(rng.uniform(9, 16))
    row = np.floor(down * count)
    along = across * count / np.float32(2.4) + row * np.float32(0.5)
    joint = ((down * count) % 1 < 0.12) | (along % 1 < 0.05)
    tones = rng.uniform(0, 0.25, (64, 64)).astype(np.float32)
    tone = tones[row.astype(int) % 64, np.floor(along).astype(int) % 64]
    return _mix(colors, np.where(joint, np.float32(0.8), tone))


def marble(rng: np.random.Generator, height: int, width: int, colors: Colors) -> Canvas:
    """Stone with veins."""
    field = clouds(rng, height, width, 3)
    veins = np.exp(-((field * np.float32(9)) ** 2)) * np.float32(0.7)
    return _mix(colors, veins + clouds(rng, height, width, 2) * np.float32(0.12))


TRAINING: Mapping[str, Background] = {
    "paper": paper,
    "gradient": gradient,
    "planks": planks,
    "carpet": carpet,
    "room": room,
    "slats": slats,
    "mosaic": mosaic,
    "grass": grass,
}
HELD_OUT: Mapping[str, Background] = {
    "tiles": tiles,
    "sheet": sheet,
    "bricks": bricks,
    "marble": marble,
}
