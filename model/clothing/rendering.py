"""Paints a garment into a scene: shadows, folds, light on bulging cloth, then the camera."""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from model.clothing.backgrounds import Canvas
from model.clothing.fabrics import Pattern, turned
from model.clothing.garments import Garment, Line, Panel
from model.clothing.garments.pieces import Points
from model.clothing.noise import Field, clouds, smooth
from model.clothing.poses import Placement
from model.clothing.scenes import Scene

OVERSAMPLING = 2


@dataclass(frozen=True)
class _Box:
    """A part of the picture, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def around(cls, points: Points, margin: float, canvas: Canvas) -> "_Box | None":
        """The box around points, cut at the picture's edges; None outside of it."""
        low = np.floor(points.min(axis=0) - margin).astype(int)
        high = np.ceil(points.max(axis=0) + margin).astype(int)
        left, top = np.maximum(low, 0)
        right, bottom = np.minimum(high, [canvas.shape[1], canvas.shape[0]])
        if right - left < 2 or bottom - top < 2:
            return None
        return cls(int(top), int(left), int(bottom), int(right))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    def of(self, canvas: Canvas) -> Canvas:
        """The view of the canvas inside the box."""
        return canvas[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Painter:
    """Paints pieces on a canvas of floats 0 to 1, height x width x 3, in place."""

    canvas: Canvas
    scene: Scene
    pattern: Pattern
    placement: Placement
    folds: Field

    def panel(self, panel: Panel) -> None:
        """Lays one panel of cloth on what is there, with its shadow."""
        points = self.placement.pixels(panel.outline)
        reach = max(2.0, self.placement.scale * 0.05)
        box = _Box.around(points, 2 * reach + 2, self.canvas)
        if box is None:
            return
        mask = _mask(points, box)
        target = box.of(self.canvas)
        coverage = _values(mask)[..., None]
        if panel.relief:
            target *= 1 - self._shadow(mask, reach)[..., None] * np.float32(0.45) * (1 - coverage)
        cloth = self._cloth(panel, box) * self._shade(panel, mask, box, reach)[..., None]
        target *= 1 - coverage
        target += cloth * coverage

    def _shadow(self, mask: Image.Image, reach: float) -> Field:
        """The panel's soft shadow, thrown away from the light."""
        thrown = (
            round(math.cos(self.scene.light) * reach * 0.6),
            round(math.sin(self.scene.light) * reach * 0.6),
        )
        soft = mask.filter(ImageFilter.BoxBlur(reach * 0.6))
        return np.roll(_values(soft), (-thrown[1], -thrown[0]), (0, 1))

    def _cloth(self, panel: Panel, box: _Box) -> Canvas:
        """The panel's own color and pattern, without light."""
        color = self.scene.cloth[panel.cloth] * np.float32(panel.tone)
        if panel.cloth != "main":
            return np.broadcast_to(color, (box.size[1], box.size[0], 3))
        u, v = self.placement.cloth(box.top, box.left, box.size[1], box.size[0])
        share = self.pattern(*turned(u, v, panel.grain))[..., None]
        return color * (1 - share) + self.scene.second * np.float32(panel.tone) * share

    def _shade(self, panel: Panel, mask: Image.Image, box: _Box, reach: float) -> Field:
        """How bright each pixel is: bulge towards the light, darker rims, folds."""
        soft = _values(mask.filter(ImageFilter.BoxBlur(reach)))
        rim = _values(mask.filter(ImageFilter.BoxBlur(1.2)))
        down, across = np.gradient(soft)
        light = -(across * math.cos(self.scene.light) + down * math.sin(self.scene.light))
        strength = panel.relief * self.scene.contrast
        bulge = light * np.float32(reach * 0.55 * strength)
        depth = (soft - 1) * np.float32(0.3 * strength)
        edge = np.minimum(rim - 1, 0) * np.float32(0.75)
        folds = box.of(self.folds) * np.float32(
            self.scene.folds * min(1.0, panel.relief) * self.scene.contrast
        )
        return np.clip(1 + bulge + depth + edge + folds, 0.1, 1.6).astype(np.float32)

    def line(self, line: Line) -> None:
        """Draws a seam, a stitch or a zip."""
        points = self.placement.pixels(line.line)
        width = max(1.3, line.width * self.placement.scale)
        box = _Box.around(points, width + 1, self.canvas)
        if box is None:
            return
        stroke = _values(_stroke(points, width, box, line.dashed))[..., None]
        target = box.of(self.canvas)
        if line.ink == "shadow":
            target *= 1 - stroke * np.float32(0.5)
        else:
            target *= 1 - stroke
            target += stroke * self._ink(line)

    def _ink(self, line: Line) -> Canvas:
        if line.ink == "light":
            return self.scene.cloth["main"] * np.float32(0.35) + np.float32(0.6)
        return self.scene.cloth["trim" if line.ink == "trim" else "metal"]


def _values(image: Image.Image) -> Field:
    """A mask's values, 0 to 1."""
    return np.asarray(image, np.float32) / np.float32(255)


def _mask(points: Points, box: _Box) -> Image.Image:
    """An anti-aliased mask of a closed outline."""
    width, height = box.size
    large = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
    shifted = (points - (box.left, box.top)) * OVERSAMPLING
    ImageDraw.Draw(large).polygon([tuple(p) for p in shifted], fill=255)
    return large.reduce(OVERSAMPLING)


def _stroke(points: Points, width: float, box: _Box, dashed: bool) -> Image.Image:
    """An anti-aliased mask of an open line."""
    across, down = box.size
    large = Image.new("L", (across * OVERSAMPLING, down * OVERSAMPLING))
    shifted = (points - (box.left, box.top)) * OVERSAMPLING
    draw = ImageDraw.Draw(large)
    for part in _dashes(shifted, max(6.0, width * 2.2)) if dashed else [shifted]:
        draw.line(
            [tuple(p) for p in part], fill=255, width=round(width * OVERSAMPLING), joint="curve"
        )
    return large.reduce(OVERSAMPLING)


def _dashes(points: Points, length: float) -> list[Points]:
    """The line cut into dashes of that length with gaps as long."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.concatenate([[0], np.cumsum(steps)])
    starts = np.arange(0, at[-1], length * 2)
    return [
        np.stack([np.interp([s, s + length], at, points[:, i]) for i in (0, 1)], axis=1)
        for s in starts
    ]


def fold_field(rng: np.random.Generator, scene: Scene) -> Field:
    """Light and dark of wrinkles over the whole picture, about -1 to 1.

    Soft waves in two directions and sharp creases, lit like everything else.
    """
    size = scene.height, scene.width
    few, many = (int(rng.integers(low, high)) for low, high in ((2, 5), (6, 12)))
    waves = smooth(rng, *size, (few, many)) + smooth(rng, *size, (many, few))
    creases = (1 - np.abs(clouds(rng, *size, few))) ** 3
    down, across = np.gradient(waves + creases * np.float32(0.4))
    lit = across * math.cos(scene.light) + down * math.sin(scene.light)
    return np.asarray(lit / (3 * lit.std() + 1e-6), np.float32)


def photographed(rng: np.random.Generator, canvas: Canvas, scene: Scene) -> bytes:
    """The JPEG bytes a camera would make of the canvas: uneven light, exposure, noise."""
    light = 1 + clouds(rng, scene.height, scene.width, 1)[..., None] * np.float32(0.12)
    seen = canvas * light * np.float32(scene.exposure)
    seen += rng.standard_normal(seen.shape, np.float32) * np.float32(scene.noise)
    image = Image.fromarray((np.clip(seen, 0, 1) * 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=scene.quality, subsampling=scene.subsampling)
    return buffer.getvalue()


def paint(painter: Painter, garment: Garment) -> None:
    """Paints all pieces of a garment, back to front."""
    for piece in garment:
        if isinstance(piece, Panel):
            painter.panel(piece)
        else:
            painter.line(piece)
