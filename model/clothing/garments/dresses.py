"""Dresses: a bodice and a skirt in one."""

from dataclasses import dataclass

import numpy as np

from model.clothing.garments.pieces import (
    Garment,
    Line,
    Panel,
    Points,
    both,
    ellipse,
    path,
    symmetric,
)
from model.clothing.garments.skirts import draped


@dataclass(frozen=True)
class _Bodice:
    """The upper part of a dress: half widths and how far down each lies."""

    neck: float
    neck_depth: float
    strap: float
    chest: float
    armpit: float
    waist: float
    bottom: float

    @property
    def outline(self) -> Points:
        """From the middle of the neckline around the right side."""
        right = path(
            (0, self.neck_depth, -0.16),
            (self.neck, 0),
            (self.neck + self.strap, 0.02, -0.16),
            (self.chest, self.armpit, -0.05),
            (self.waist, self.bottom),
            (0, self.bottom + 0.03),
        )
        return symmetric(right)


def dress(rng: np.random.Generator, limbs: float) -> Garment:
    """A bodice and a skirt in one: with straps, cap sleeves or strapless."""
    waist = rng.uniform(0.24, 0.29)
    bodice = _Bodice(
        neck=rng.uniform(0.18, 0.22),
        neck_depth=rng.uniform(0.16, 0.34),
        strap=rng.uniform(0.03, 0.12),
        chest=rng.uniform(0.34, 0.38),
        armpit=rng.uniform(0.34, 0.42),
        waist=waist,
        bottom=rng.uniform(0.74, 0.86),
    )
    length = rng.uniform(1.65, 2.25)
    hem = waist + rng.uniform(0.3, 0.62) * (0.85 + 0.3 * limbs)
    return (
        _back(bodice),
        *_dress_skirt(rng, bodice, hem, length),
        *_cap_sleeves(rng, bodice, limbs),
        Panel(bodice.outline, relief=1.2),
        *_darts(bodice),
        *_sash(rng, bodice),
    )


def _back(bodice: _Bodice) -> Panel:
    """The inside of the back, seen through the neck opening."""
    right = path(
        (0, bodice.neck_depth * 0.3, -0.1),
        (bodice.neck + 0.02, 0),
        (0.2, bodice.armpit),
        (0, bodice.armpit),
    )
    return Panel(symmetric(right), "lining", relief=0.2, tone=0.6)


def _dress_skirt(rng: np.random.Generator, bodice: _Bodice, hem: float, length: float) -> Garment:
    """The skirt below the waist, with soft folds or tiers."""
    top = bodice.bottom
    pieces = draped(rng, bodice.waist * 1.02, hem, length - top)
    shift = np.array([0.0, top - 0.06])
    moved = [piece.mapped(piece.points + shift) for piece in pieces]
    return tuple(moved)


def _cap_sleeves(rng: np.random.Generator, bodice: _Bodice, limbs: float) -> Garment:
    """Short puffed sleeves on some dresses with wide straps."""
    if bodice.strap < 0.08 or rng.random() < 0.4:
        return ()
    x, y = bodice.neck + bodice.strap, 0.02
    reach, fall = 0.2 + 0.08 * limbs, 0.3 - 0.08 * limbs
    outline = path(
        (x - 0.03, y, 0.16),
        (x + reach, y + fall * 0.7),
        (x + reach * 0.75, y + fall),
        (bodice.chest - 0.02, bodice.armpit, 0.0),
    )
    return both(Panel(outline, relief=1.6))


def _darts(bodice: _Bodice) -> Garment:
    """The seams that shape the bodice."""
    seam = path(
        (bodice.chest * 0.55, bodice.armpit + 0.08, -0.05), (bodice.waist * 0.6, bodice.bottom)
    )
    return both(Line(seam, 0.012))


def _sash(rng: np.random.Generator, bodice: _Bodice) -> Garment:
    """The waist: a seam, a belt or a sash with a bow."""
    kind = rng.integers(0, 3)
    y, width = bodice.bottom, bodice.waist * 1.02
    if kind == 0:
        return (Line(path((-width, y, -0.03), (width, y)), 0.018),)
    right = path((0, y - 0.03), (width, y - 0.05), (width, y + 0.04), (0, y + 0.06))
    belt = Panel(symmetric(right), "trim", relief=0.8)
    if kind == 1:
        return (belt,)
    loop = path((0.01, y), (0.14, y - 0.08, 0.3), (0.14, y + 0.07), (0.01, y + 0.02))
    tail = path((0.0, y + 0.02), (0.05, y), (0.13, y + 0.34), (0.06, y + 0.36))
    knot = Panel(ellipse(0, y, 0.04, 0.045), "trim", relief=0.8)
    return (belt, *both(Panel(tail, "trim")), *both(Panel(loop, "trim", relief=1.2)), knot)
