"""Pants, shorts, skirts and dresses: what hangs from the waist."""

from dataclasses import dataclass

import numpy as np

from model.clothing.garments.pieces import (
    Cloth,
    Garment,
    Line,
    Panel,
    Piece,
    Points,
    band,
    both,
    button,
    ellipse,
    mirrored,
    path,
    symmetric,
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


def _opening(width: float, depth: float = 0.045) -> Panel:
    """The inside of the back of a waist, seen from slightly above."""
    right = path((0, -depth, 0.1), (width, 0.01), (0, 0.05))
    return Panel(symmetric(right), "lining", relief=0.2, tone=0.55)


def _fly(legs: _Legs, height: float) -> Garment:
    """The front seam with the curve of a fly, and the button above it."""
    seam = Line(path((0, height), (0, legs.crotch)), 0.013)
    curve = path((0.09, height), (0.09, legs.crotch * 0.55, 0.15), (0.0, legs.crotch * 0.75))
    return (seam, Line(curve, 0.009, "light", dashed=True), *button(0, height * 0.55, 0.028))


def _hip_pockets(legs: _Legs, height: float) -> Garment:
    """Two curved pocket mouths at the hips."""
    mouth = path((legs.waist * 0.55, height, 0.12), (legs.hip * 0.98, legs.crotch * 0.55))
    return (*both(Line(mouth, 0.014)), *both(Line(mouth + (-0.015, 0.015), 0.008, "light", True)))


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
    side = Line(legs.right[8:34] * (0.96, 1.0), 0.05, "trim") if sporty else None
    front = _drawstring(height, legs) if sporty else _fly(legs, height)
    stripe = both(side) if side is not None and rng.random() < 0.5 else ()
    return (
        _opening(legs.waist),
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


def skirt(rng: np.random.Generator, limbs: float) -> Garment:
    """A waistband and cloth around both legs: narrow, flared, pleated or tiered."""
    waist = rng.uniform(0.3, 0.36)
    length = rng.uniform(0.75, 1.45)
    flare = rng.uniform(0.12, 0.3) if rng.random() < 0.3 else rng.uniform(0.3, 0.62)
    hem = waist + flare * (0.8 + 0.4 * limbs)
    makers = (_pleats, _tiers, _panels)
    dressing = makers[rng.integers(len(makers))](rng, waist, hem, length)
    height = rng.uniform(0.08, 0.13)
    right = path((0, 0.015, 0.02), (waist, 0), (waist + 0.02, height), (0, height + 0.015))
    cloth: Cloth = "trim" if rng.random() < 0.35 else "main"
    return (
        _opening(waist, 0.055),
        *dressing,
        Panel(symmetric(right), cloth, relief=0.7, tone=0.92),
        *(button(0, height * 0.55, 0.026) if rng.random() < 0.3 else ()),
    )


def _swing(waist: float, hem: float, top: float, bottom: float, drop: float) -> Points:
    """The outline of a skirt, its hem hanging lower in the middle."""
    right = path((0, top), (waist, top, 0.07 if hem < waist * 1.5 else -0.04), (hem, bottom, 0.08))
    return symmetric(np.concatenate([right, path((hem * 0.5, bottom + drop), (0, bottom + drop))]))


def _pleats(rng: np.random.Generator, waist: float, hem: float, length: float) -> Garment:
    """Pressed pleats from the waist to a zigzag hem."""
    count = int(rng.integers(7, 13))
    pieces: list[Piece] = [Panel(_swing(waist, hem, 0.05, length, 0.05), relief=1.0)]
    for step in range(count):
        left, right = (-1 + 2 * (step + i) / count for i in (0, 1))
        drop = 0.06 * (1 - ((left + right) / 2) ** 2)
        fold = path(
            (left * waist, 0.08),
            (right * waist, 0.08),
            (right * hem, length + drop),
            (left * hem, length + drop - 0.035),
        )
        pieces.append(Panel(fold, relief=1.3, tone=1.05 if step % 2 else 0.92))
    return tuple(pieces)


def _tiers(rng: np.random.Generator, waist: float, hem: float, length: float) -> Garment:
    """Rows of gathered cloth, each wider than the one above, drawn from the lowest up."""
    count = int(rng.integers(2, 5))
    edges = np.linspace(0.08, length, count + 1)
    pieces: list[Piece] = []
    for row in reversed(range(count)):
        top, bottom = edges[row], edges[row + 1]
        widths = [waist + (hem - waist) * (y - 0.08) / (length - 0.08) for y in (top, bottom)]
        outline = _swing(widths[0] * 0.97, widths[1] * 1.04, top - 0.05, bottom, 0.05)
        cloth: Cloth = "trim" if row % 2 and rng.random() < 0.3 else "main"
        pieces.append(Panel(outline, cloth, relief=1.2, tone=1 - 0.04 * (row % 2)))
        gathers = np.linspace(-0.85, 0.85, 11) + rng.uniform(-0.03, 0.03, 11)
        pieces += [
            Line(path((x * widths[0], top), (x * widths[1], top + (bottom - top) * 0.55)), 0.014)
            for x in gathers
        ]
    return tuple(pieces)


def _panels(rng: np.random.Generator, waist: float, hem: float, length: float) -> Garment:
    """A plain skirt with soft folds, sometimes with buttons down the front."""
    body = Panel(_swing(waist, hem, 0.05, length, 0.06), relief=1.3)
    folds = [
        Line(path((x * waist, 0.2, 0.02), (x * hem, length * rng.uniform(0.85, 1.0))), 0.016)
        for x in rng.uniform(-0.75, 0.75, 5)
    ]
    places = np.linspace(0.22, length - 0.12, 6) if rng.random() < 0.35 else ()
    buttons = [piece for y in places for piece in button(0, float(y), 0.024)]
    middle = Line(path((0.045, 0.1), (0.045, length + 0.05)), 0.012)
    right = path((0, length - 0.03 + 0.06, -0.03), (hem * 0.98, length - 0.03))
    hem_line = Line(np.concatenate([mirrored(right), right[1:]]), 0.009, dashed=True)
    return (body, *folds, *((middle,) if buttons else ()), *buttons, hem_line)


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
    makers = (_panels, _tiers, _pleats)
    pieces = makers[rng.integers(len(makers))](rng, bodice.waist * 1.02, hem, length - top)
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
