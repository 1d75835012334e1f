"""Shoes, from the side, alone or as a pair."""

import numpy as np

from model.clothing.garments.pieces import Cloth, Garment, Line, Panel, Piece, ellipse, path


def shoes(rng: np.random.Generator, limbs: float) -> Garment:
    """One kind of shoe, mostly with the other of the pair behind it."""
    makers = (_sneaker, _sneaker, _boot, _heel, _loafer)
    front = makers[rng.integers(len(makers))](rng)
    if rng.random() < 0.3:
        return front
    shift = np.array([0.25 + 0.35 * limbs, -rng.uniform(0.28, 0.45)])
    behind = [_darker(piece.mapped(piece.points + shift)) for piece in front]
    return (*behind, *front)


def _darker(piece: Piece) -> Piece:
    """A panel of the shoe behind, in the other one's shade."""
    if isinstance(piece, Panel):
        return Panel(piece.outline, piece.cloth, piece.grain, piece.relief, piece.tone * 0.85)
    return piece


def _sole(thick: float) -> Garment:
    """A rubber sole from heel (left) to toe (right), with its line."""
    top = 0.62
    outline = path(
        (-0.98, top - 0.06, 0.0),
        (-0.3, top + 0.01, 0.0),
        (0.6, top, 0.03),
        (1.04, top - 0.06, 0.3),
        (0.98, top + thick * 0.8, 0.06),
        (0.4, top + thick),
        (-0.92, top + thick, 0.2),
    )
    line = path((-0.98, top + thick * 0.45), (0.4, top + thick * 0.5), (1.02, top + thick * 0.3))
    return (Panel(outline, "trim", relief=0.8), Line(line, 0.014))


def _laces(start: tuple[float, float], end: tuple[float, float], count: int) -> Garment:
    """Laces across the instep between two points."""
    pieces: list[Piece] = []
    for t in np.linspace(0.05, 0.95, count):
        x, y = (start[i] + (end[i] - start[i]) * t for i in (0, 1))
        pieces.append(Line(path((x - 0.1, y - 0.005, 0.12), (x + 0.055, y + 0.085)), 0.05))
        pieces.append(Line(path((x - 0.1, y - 0.01, 0.12), (x + 0.055, y + 0.08)), 0.034, "light"))
    return tuple(pieces)


def _sneaker(rng: np.random.Generator) -> Garment:
    """A sneaker, low or high."""
    high = rng.uniform(0.3, 0.55) if rng.random() < 0.4 else 0.0
    collar = -0.02 - high
    upper = path(
        (-0.94, 0.62, 0.04),
        (-0.9, collar, 0.0),
        (-0.42, collar + 0.06, -0.12),
        (-0.12, collar * 0.4 + 0.02, -0.05),
        (0.42, 0.33, 0.14),
        (1.0, 0.6, 0.0),
    )
    hole = path((-0.88, collar - 0.01, 0.12), (-0.42, collar + 0.05, 0.12))
    toe = path((0.56, 0.4, 0.2), (1.0, 0.6), (0.5, 0.62, 0.18))
    counter = path((-0.92, 0.22, 0.06), (-0.5, 0.62), (-0.94, 0.62))
    cloth: Cloth = "trim" if rng.random() < 0.5 else "main"
    return (
        Panel(hole, "lining", relief=0.3, tone=0.5),
        Panel(upper, relief=1.5),
        Panel(toe, cloth, relief=1.2, tone=1.04),
        Line(path((0.56, 0.4, 0.2), (0.5, 0.62)), 0.014),
        Panel(counter, cloth, relief=1.0, tone=0.95),
        *_side_mark(rng),
        *_laces((-0.2, collar * 0.4 + 0.03), (0.36, 0.31), 4 + round(high * 4)),
        *_sole(rng.uniform(0.14, 0.24)),
    )


def _side_mark(rng: np.random.Generator) -> Garment:
    """Stripes or a patch on the side."""
    if rng.random() < 0.5:
        return tuple(
            Line(path((x, 0.22), (x - 0.14, 0.58)), 0.045, "trim") for x in (-0.24, -0.1, 0.04)
        )
    return (Panel(ellipse(-0.3, 0.4, 0.13, 0.1, -0.3), "accent", relief=0.2),)


def _boot(rng: np.random.Generator) -> Garment:
    """A laced boot with a shaft."""
    top = -rng.uniform(0.7, 1.1)
    shaft = path(
        (-0.92, 0.62, 0.03),
        (-0.84, top, 0.0),
        (-0.1, top + 0.03, -0.02),
        (-0.06, 0.06, -0.1),
        (0.45, 0.28, 0.16),
        (1.0, 0.6),
    )
    hole = path((-0.84, top, 0.1), (-0.1, top + 0.03, 0.1))
    heel = path((-0.96, 0.7), (-0.5, 0.7), (-0.52, 0.95), (-0.94, 0.95))
    pull = path((-0.84, top + 0.1), (-0.12, top + 0.12))
    return (
        Panel(heel, "trim", relief=0.6, tone=0.8),
        Panel(hole, "lining", relief=0.3, tone=0.5),
        Panel(shaft, relief=1.6),
        Line(path((0.45, 0.32, 0.16), (0.5, 0.62)), 0.014),
        Line(path((-0.5, 0.62, 0.1), (-0.4, 0.2), (-0.36, top + 0.1)), 0.013),
        Line(pull, 0.014),
        *_laces((-0.12, top + 0.2), (0.05, 0.08), 6),
        *_laces((0.12, 0.12), (0.36, 0.24), 2),
        *_sole(rng.uniform(0.1, 0.18)),
    )


def _heel(rng: np.random.Generator) -> Garment:
    """A pump with a high heel, slender or broad."""
    seat = 0.7 - rng.uniform(0.45, 0.7)
    back = (-0.97, seat - rng.uniform(0.28, 0.36))
    vamp = (rng.uniform(0.34, 0.46), 0.36)
    broad = rng.uniform(0.0, 0.2)
    sole = path((1.04, 0.66, 0.06), (0.36, 0.7, 0.1), (-0.4, seat + 0.22, -0.04), (-0.93, seat))
    upper = path((*back, -0.05), (*vamp, 0.18), (1.04, 0.66))
    inside = path((back[0] + 0.02, back[1], 0.01), vamp, (-0.2, seat + 0.1), (-0.85, seat - 0.05))
    stem = path(
        (-0.94, seat - 0.01),
        (-0.54, seat + 0.13, 0.1),
        (-0.76 + broad, 0.72),
        (-0.88, 0.72, 0.06),
    )
    return (
        Panel(stem, "trim", relief=0.8, tone=0.85),
        Panel(inside, "lining", relief=0.2, tone=0.6),
        Panel(np.concatenate([upper, sole[1:]]), relief=1.6),
        Line(sole, 0.05, "trim"),
        Line(sole, 0.012),
    )


def _loafer(rng: np.random.Generator) -> Garment:
    """A flat leather shoe with a strap and a heel."""
    upper = path(
        (-0.94, 0.62, 0.04),
        (-0.9, 0.08, 0.06),
        (-0.5, 0.14, -0.18),
        (0.1, 0.18, 0.06),
        (0.55, 0.36, 0.16),
        (1.0, 0.6),
    )
    hole = path((-0.88, 0.08, 0.14), (0.0, 0.15, 0.1), (-0.4, 0.3, 0.0))
    strap = path((0.02, 0.16, 0.05), (0.3, 0.25), (0.1, 0.6), (-0.18, 0.6))
    heel = path((-0.95, 0.7), (-0.42, 0.7), (-0.45, 0.9), (-0.93, 0.9))
    vamp = path((0.3, 0.3, 0.1), (0.72, 0.44, 0.1), (0.95, 0.58))
    return (
        Panel(heel, "trim", relief=0.5, tone=0.7),
        Panel(hole, "lining", relief=0.2, tone=0.5),
        Panel(upper, relief=1.7),
        Panel(strap, "trim", relief=0.8),
        Line(vamp, 0.016),
        *_sole(rng.uniform(0.08, 0.12)),
    )
