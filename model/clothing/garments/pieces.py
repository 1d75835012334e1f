"""What garments are made of: panels of cloth and lines on them.

Coordinates are the garment's own: x to the right, y down, the middle of the garment at x = 0,
a chest about one unit wide. Outlines run clockwise.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Cloth = Literal["main", "trim", "lining", "accent", "metal"]
Ink = Literal["shadow", "light", "trim", "metal"]
STEPS_PER_EDGE = 8


@dataclass(frozen=True)
class Panel:
    """A closed piece of cloth. grain turns its folds and pattern, in radians.

    relief is how far it bulges towards the viewer, tone multiplies its brightness.
    """

    outline: Points
    cloth: Cloth = "main"
    grain: float = 0.0
    relief: float = 1.0
    tone: float = 1.0

    def mapped(self, points: Points) -> "Panel":
        """The same panel with another outline."""
        return replace(self, outline=points)

    @property
    def points(self) -> Points:
        """Its outline."""
        return self.outline


@dataclass(frozen=True)
class Line:
    """An open line: a seam, a stitch, a zip. width is in garment units."""

    line: Points
    width: float = 0.012
    ink: Ink = "shadow"
    dashed: bool = False

    def mapped(self, points: Points) -> "Line":
        """The same line through other points."""
        return replace(self, line=points)

    @property
    def points(self) -> Points:
        """The points it runs through."""
        return self.line


Piece = Panel | Line
Garment = tuple[Piece, ...]


def path(*vertices: Sequence[float]) -> Points:
    """An open line through vertices (x, y) or (x, y, bulge).

    A bulge curves the edge that starts at its vertex: the middle of the edge moves to the left
    of the way, seen on screen, by that fraction of the edge's length. On a clockwise outline
    that is outwards.
    """
    edges = [_edge(start, end) for start, end in itertools.pairwise(vertices)]
    last = np.array([vertices[-1][:2]], dtype=float)
    return np.concatenate([*edges, last])


def _edge(start: Sequence[float], end: Sequence[float]) -> Points:
    """The edge's points without its last one, on a quadratic Bézier curve."""
    first, last = np.array(start[:2], dtype=float), np.array(end[:2], dtype=float)
    along = last - first
    bulge = start[2] if len(start) > 2 else 0.0
    control = (first + last) / 2 + 2 * bulge * np.array([along[1], -along[0]])
    t = np.linspace(0, 1, STEPS_PER_EDGE, endpoint=False)[:, None]
    return np.asarray((1 - t) ** 2 * first + 2 * t * (1 - t) * control + t**2 * last)


def mirrored(points: Points) -> Points:
    """The points reflected at x = 0, in reverse order so that clockwise stays clockwise."""
    return np.asarray(points[::-1] * np.array([-1.0, 1.0]))


def symmetric(right: Points) -> Points:
    """A closed outline from its right half, which runs from the top middle to the bottom middle."""
    return np.concatenate([right, mirrored(right)])


def both(piece: Piece) -> Garment:
    """A piece and its mirror image."""
    other = piece.mapped(mirrored(piece.points))
    if isinstance(other, Panel):
        other = replace(other, grain=-other.grain)
    return (piece, other)


def ellipse(x: float, y: float, width: float, height: float, turn: float = 0.0) -> Points:
    """An ellipse by its middle and half axes, turned by radians."""
    t = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    flat = np.stack([width * np.cos(t), height * np.sin(t)], axis=1)
    return np.asarray(rotated(flat, turn) + np.array([x, y]))


def rotated(points: Points, turn: float) -> Points:
    """Points turned about the origin by radians, clockwise on screen."""
    c, s = math.cos(turn), math.sin(turn)
    return np.asarray(points @ np.array([[c, s], [-s, c]]))


def button(x: float, y: float, radius: float, cloth: Cloth = "accent") -> Garment:
    """A round button with a rim and its thread."""
    cross = path((x - radius * 0.3, y), (x + radius * 0.3, y))
    return (
        Panel(ellipse(x, y, radius, radius), cloth=cloth, relief=0.6),
        Line(cross, width=radius * 0.35),
    )


def band(line: Points, width: float) -> Points:
    """The closed outline of a ribbon of that width along an open line."""
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    side = np.stack([along[:, 1], -along[:, 0]], axis=1) * width / 2
    return np.concatenate([line + side, (line - side)[::-1]])


def waist_opening(width: float, depth: float = 0.045) -> Panel:
    """The inside of the back of a waist, seen from slightly above."""
    right = path((0, -depth, 0.1), (width, 0.01), (0, 0.05))
    return Panel(symmetric(right), "lining", relief=0.2, tone=0.55)
