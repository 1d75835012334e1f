"""Coats, closed and open."""

import numpy as np

from model.clothing.garments.pieces import (
    Cloth,
    Garment,
    Line,
    Panel,
    both,
    button,
    path,
    symmetric,
)
from model.clothing.garments.torso import Torso, sleeves
from model.clothing.garments.wide import wide_cut


def coat(rng: np.random.Generator, limbs: float) -> Garment:
    """A closed coat: lapels, one or two rows of large buttons, pocket flaps, often a belt."""
    cut = wide_cut(rng, limbs, rng.uniform(1.75, 2.15), rng.uniform(0.45, 0.6))
    torso = cut.torso
    depth = torso.neck_depth
    rows = (0.0,) if rng.random() < 0.4 else (-0.15, 0.15)
    places = np.arange(depth + 0.1, torso.length * 0.72, 0.24)
    buttons = [p for x in rows for y in places for p in button(x, float(y), 0.042)]
    edge = Line(path((0.05, depth), (0.05, torso.length + 0.02)), 0.014)
    return (
        torso.back_of_neck(0.08),
        Panel(torso.body(), relief=1.6),
        *sleeves(cut.sleeve, torso, relief=1.6),
        *both(cut.sleeve.cuff_band(torso, 0.12)),
        edge,
        *_flaps(torso),
        *(_belt(torso) if rng.random() < 0.5 else ()),
        *buttons,
        *_lapels(torso, depth, "trim" if rng.random() < 0.25 else "main"),
    )


def open_coat(rng: np.random.Generator, limbs: float) -> Garment:
    """A coat worn open: two fronts, the lining between them, lapels down the edges."""
    cut = wide_cut(rng, limbs, rng.uniform(1.45, 2.0), 0.3)
    torso = cut.torso
    gap = rng.uniform(0.1, 0.2)
    front = path(
        (torso.neck, 0, 0.02),
        (torso.shoulder, torso.slope, -0.06),
        (torso.chest, torso.armpit, -0.02),
        (torso.hem, torso.length, 0.0),
        (gap + 0.06, torso.length + 0.02),
        (gap, torso.armpit + 0.2),
    )
    lapel = path(
        (torso.neck * 0.8, -0.03),
        (torso.neck + 0.08, 0.04),
        (gap + 0.22, 0.38),
        (gap + 0.12, 0.44),
        (gap + 0.02, torso.armpit + 0.35),
    )
    y = torso.length * 0.68
    flap = path((gap + 0.12, y), (gap + 0.36, y), (gap + 0.36, y + 0.09), (gap + 0.12, y + 0.09))
    collar = path((0, -0.12, 0.05), (torso.neck + 0.03, -0.02), (torso.neck, 0.12, 0.2), (0, 0.04))
    return (
        Panel(torso.body(), "lining", relief=0.5, tone=0.55),
        Line(path((0, 0.1), (0, torso.length)), 0.012),
        *both(Panel(front, relief=1.6)),
        *sleeves(cut.sleeve, torso, relief=1.6),
        *both(cut.sleeve.cuff_band(torso, 0.1)),
        Panel(symmetric(collar), relief=0.8, tone=0.85),
        *both(Panel(lapel, "trim" if rng.random() < 0.4 else "main", relief=1.0, tone=1.08)),
        *both(Panel(flap, relief=0.8, tone=1.05)),
        *both(Line(np.concatenate([flap, flap[:1]]), 0.012)),
    )


def _lapels(torso: Torso, depth: float, cloth: Cloth) -> Garment:
    """The turned-back front edges of a coat, with a notch below the collar."""
    lapel = path(
        (0.0, depth, 0.06),
        (torso.neck * 0.75, 0.05),
        (torso.neck + 0.06, 0.16),
        (torso.neck + 0.15, 0.25),
        (torso.neck + 0.14, 0.36, 0.04),
    )
    collar = path(
        (torso.neck * 0.6, -0.09, 0.05),
        (torso.neck + 0.05, 0.02),
        (torso.neck + 0.18, 0.2),
        (torso.neck + 0.05, 0.2),
        (torso.neck * 0.78, 0.06),
    )
    return (
        *both(Panel(lapel, cloth, relief=1.0, tone=1.08)),
        *both(Panel(collar, cloth, relief=1.0, tone=0.95)),
        *both(Line(np.concatenate([lapel, lapel[:1]]), 0.012)),
    )


def _flaps(torso: Torso) -> Garment:
    """Two flapped pockets at the hips."""
    y = torso.length * 0.66
    flap = path((0.2, y), (0.46, y), (0.46, y + 0.1), (0.2, y + 0.1), (0.2, y))
    return (*both(Panel(flap[:-1], relief=0.8, tone=1.05)), *both(Line(flap, 0.012)))


def _belt(torso: Torso) -> Garment:
    """A belt with its buckle."""
    y = (torso.armpit + torso.length) / 2 - 0.1
    width = torso.waist * 1.02
    strap = symmetric(path((0, y), (width, y), (width, y + 0.1), (0, y + 0.1)))
    buckle = path(
        (-0.08, y - 0.02), (0.08, y - 0.02), (0.08, y + 0.12), (-0.08, y + 0.12), (-0.08, y - 0.02)
    )
    return (Panel(strap, "trim", relief=0.8, tone=0.9), Line(buckle, 0.022, "metal"))
