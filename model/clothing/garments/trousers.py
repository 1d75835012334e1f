"""Pants and shorts."""

from dataclasses import dataclass

import numpy as np

from model.clothing.garments.pieces import (
    Cloth,
    Garment,
    Line,
    Panel,
    Points,
    band,
    both,
    button,
    path,
    symmetric,
    waist_opening,
)


@dataclass(frozen=True)
class _Legs:
    """Half widths at waist and hip, and one leg's way down to its hem."""

    waist: float
    hip: float
    crotch: float
    length: float
    hem: float
    spread: float
    knee: float

    @property
    def right(self) -> Points:
        """The outline of the right leg up to the middle of the waist."""
        middle = self.hip * 0.5 + self.spread
        knee = (self.crotch + self.length) / 2
        knee_middle = self.hip * 0.5 + self.spread * 0.5
        return path(
            (0, 0),
            (self.waist, 0, 0.05),
            (self.hip, self.crotch * 0.75, 0.0),
            (knee_middle + self.knee, knee),
            (middle + self.hem, self.length, 0.02),
            (middle - self.hem, self.length),
            (knee_middle - self.knee * 0.9, knee),
            (0.012, self.crotch, 0.0),
        )

    @property
    def ends(self) -> tuple[float, float]:
        """The inner and outer end of the right hem."""
        middle = self.hip * 0.5 + self.spread
        return middle - self.hem, middle + self.hem


def _waistband(legs: _Legs, height: float, cloth: Cloth) -> Garment:
    """The band at the top, its opening behind and its belt loops."""
    width = legs.waist * 1.01
    right = path((0, 0.015, 0.02), (width, 0), (width * 1.02, height), (0, height + 0.015))
    loops = [
        Panel(band(path((x, -0.01), (x, height + 0.025)), 0.035), relief=0.6, tone=1.08)
        for x in (-width * 0.78, -width * 0.4, width * 0.4, width * 0.78)
    ]
    return (Panel(symmetric(right), cloth, relief=0.7, tone=0.95), *loops)


def _fly(legs: _Legs, height: float) -> Garment:
    """The front seam with the curve of a fly, and the button above it."""
    seam = Line(path((0, height), (0, legs.crotch)), 0.013)
    curve = path((0.09, height), (0.09, legs.crotch * 0.55, 0.15), (0.0, legs.crotch * 0.75))
    return (seam, Line(curve, 0.009, "light", dashed=True), *button(0, height * 0.55, 0.028))


def _hip_pockets(legs: _Legs, height: float) -> Garment:
    """Two curved pocket mouths at the hips."""
    mouth = path((legs.waist * 0.55, height, 0.12), (legs.hip * 0.98, legs.crotch * 0.55))
    return (
        *both(Line(mouth, 0.014)),
        *both(Line(mouth + np.array([-0.015, 0.015]), 0.008, "light", True)),
    )


def _hems(legs: _Legs, height: float, cloth: Cloth | None) -> Garment:
    """Turned-up or elastic leg ends, or a line of stitches when cloth is None."""
    inner, outer = legs.ends
    y = legs.length
    if cloth is None:
        line = path((outer, y - height * 0.6), (inner, y - height * 0.6))
        return both(Line(line, 0.009, dashed=True))
    outline = path((inner - 0.01, y - height), (outer + 0.01, y - height), (outer, y), (inner, y))
    return both(Panel(outline, cloth, relief=0.7, tone=1.05))


def _trousers(rng: np.random.Generator, legs: _Legs, turned: float) -> Garment:
    """Everything that pants and shorts have in common."""
    height = rng.uniform(0.07, 0.11)
    hems: Cloth | None = "trim" if rng.random() < turned / 2 else None
    hems = "main" if hems is None and rng.random() < turned else hems
    sporty = rng.random() < 0.3
    right = Panel(legs.right, relief=1.1)
    side = Line(legs.right[8:34] * np.array([0.96, 1.0]), 0.05, "trim") if sporty else None
    front = _drawstring(height, legs) if sporty else _fly(legs, height)
    stripe = both(side) if side is not None and rng.random() < 0.5 else ()
    return (
        waist_opening(legs.waist),
        *both(right),
        *stripe,
        *_hip_pockets(legs, height),
        *_hems(legs, rng.uniform(0.06, 0.1), hems),
        *_waistband(legs, height, "trim" if sporty else "main"),
        *front,
    )


def _drawstring(height: float, legs: _Legs) -> Garment:
    """Two cords hanging from an elastic waist."""
    cord = path((0.03, height * 0.6, 0.15), (0.06, height + 0.22))
    return (Line(path((0, height), (0, legs.crotch)), 0.011), *both(Line(cord, 0.022, "light")))


def pants(rng: np.random.Generator, limbs: float) -> Garment:
    """Two legs down to the ankle: skinny, straight or wide."""
    waist = rng.uniform(0.32, 0.38)
    hip = waist + rng.uniform(0.05, 0.1)
    hem = rng.choice([rng.uniform(0.1, 0.13), rng.uniform(0.14, 0.18), rng.uniform(0.19, 0.25)])
    legs = _Legs(
        waist=waist,
        hip=hip,
        crotch=rng.uniform(0.5, 0.6),
        length=rng.uniform(1.95, 2.25),
        hem=float(hem),
        spread=0.02 + 0.16 * limbs + max(0.0, float(hem) - 0.2),
        knee=float(hem) * 0.5 + hip * 0.22,
    )
    return _trousers(rng, legs, turned=0.35)


def shorts(rng: np.random.Generator, limbs: float) -> Garment:
    """Two wide legs that end above the knee."""
    waist = rng.uniform(0.4, 0.48)
    hip = waist + rng.uniform(0.07, 0.12)
    crotch = rng.uniform(0.48, 0.56)
    legs = _Legs(
        waist=waist,
        hip=hip,
        crotch=crotch,
        length=crotch + rng.uniform(0.22, 0.48),
        hem=hip * rng.uniform(0.46, 0.52),
        spread=0.06 + 0.1 * limbs,
        knee=hip * 0.52,
    )
    return _trousers(rng, legs, turned=0.5)
