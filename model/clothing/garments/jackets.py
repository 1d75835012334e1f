"""Jackets: with ribbed cuffs, hooded, padded; all with a zip."""

import itertools

import numpy as np

from model.clothing.garments.pieces import Cloth, Garment, Line, Panel, both, path, symmetric
from model.clothing.garments.torso import Sleeve, Torso, sleeves
from model.clothing.garments.wide import WideCut, wide_cut


def bomber(rng: np.random.Generator, limbs: float) -> Garment:
    """A bomber: stand-up collar, zip, ribbed cuffs and waistband."""
    cut = wide_cut(rng, limbs, rng.uniform(1.25, 1.45), 0.08)
    torso = cut.torso
    cloth: Cloth = "trim" if rng.random() < 0.6 else "main"
    arms: Cloth = "trim" if rng.random() < 0.25 else "main"
    collar = path(
        (0.015, 0.1),
        (0.03, -0.02, 0.1),
        (torso.neck * 0.95, -0.12),
        (torso.neck + 0.06, 0.04, -0.15),
    )
    return (
        torso.back_of_neck(0.1),
        Panel(torso.body(), relief=1.5),
        *sleeves(cut.sleeve, torso, arms, 1.5),
        *_rib(cut, rng.uniform(0.1, 0.14), cloth),
        *_zip(0.08, torso.length),
        *both(Panel(collar, cloth, relief=1.0, tone=0.9)),
        *_slanted_pockets(cut, bool(rng.random() < 0.6)),
    )


def hooded(rng: np.random.Generator, limbs: float) -> Garment:
    """A hooded jacket or parka with a zip and patch pockets."""
    cut = wide_cut(rng, limbs, rng.uniform(1.35, 1.75), 0.2)
    torso = cut.torso
    behind, front = _hood(rng, torso)
    top, bottom = torso.length * 0.62, torso.length * 0.86
    pocket = path((0.12, top), (0.36, top), (0.44, bottom), (0.12, bottom), (0.12, top))
    return (
        *behind,
        Panel(torso.body(), relief=1.5),
        *sleeves(cut.sleeve, torso, relief=1.5),
        *both(cut.sleeve.cuff_band(torso, 0.11)),
        *_zip(0.2, torso.length),
        *both(Panel(pocket[:-1], relief=0.7, tone=1.03)),
        *both(Line(pocket, 0.014)),
        *front,
    )


def padded(rng: np.random.Generator, limbs: float) -> Garment:
    """A padded jacket: quilted across, stand-up collar or hood, zip."""
    cut = wide_cut(rng, limbs, rng.uniform(1.3, 1.65), 0.1)
    torso, step = cut.torso, rng.uniform(0.15, 0.22)
    behind, front = _hood(rng, torso) if rng.random() < 0.5 else ((torso.back_of_neck(0.1),), ())
    collar = path((0.02, 0.14), (0.03, -0.12, 0.05), (torso.neck, -0.14), (torso.neck + 0.07, 0.06))
    stand = () if front else both(Panel(collar, relief=1.3, tone=0.95))
    return (
        *behind,
        *_quilted_body(torso, step),
        *(piece for p in _quilted_sleeve(cut, step) for piece in both(p)),
        *_zip(0.1, torso.length),
        *stand,
        *front,
        *_slanted_pockets(cut, True),
    )


def _zip(top: float, bottom: float) -> Garment:
    """A zip with its tapes, teeth and slider."""
    half = 0.035
    tape = symmetric(path((0, top), (half, top), (half, bottom), (0, bottom)))
    teeth = Line(path((0, top), (0, bottom)), 0.03, "metal", dashed=True)
    slider = path((0, top + 0.03), (0.028, top + 0.03), (0.02, top + 0.14), (0, top + 0.15))
    return (
        Panel(tape, "lining", relief=0.3, tone=0.5),
        teeth,
        Panel(symmetric(slider), "metal", relief=0.8),
    )


def _rib(cut: WideCut, height: float, cloth: Cloth) -> Garment:
    """A ribbed waistband and cuffs."""
    torso = cut.torso
    top, width = torso.length - height, torso.hem
    right = path((0, top), (width, top), (width * 0.9, torso.length), (0, torso.length))
    ribs = [
        Line(path((x * width, top), (x * width * 0.92, torso.length)), 0.009)
        for x in np.linspace(-0.95, 0.95, 21)
    ]
    cuffs = both(cut.sleeve.cuff_band(torso, height, cloth))
    return (Panel(symmetric(right), cloth, relief=0.7, tone=0.85), *ribs, *cuffs)


def _slanted_pockets(cut: WideCut, zipped: bool) -> Garment:
    """Side pockets with a welt or a zip."""
    y = cut.torso.length * 0.68
    line = path((cut.torso.chest * 0.45, y - 0.13), (cut.torso.chest * 0.72, y + 0.13))
    if zipped:
        return (*both(Line(line, 0.045, "shadow")), *both(Line(line, 0.022, "metal", dashed=True)))
    return (*both(Line(line, 0.06, "light")), *both(Line(line + 0.02, 0.014)))


def _hood(rng: np.random.Generator, torso: Torso) -> tuple[Garment, Garment]:
    """A hood: what lies behind the body, and its rim with cords in front."""
    wide, high = rng.uniform(0.34, 0.42), rng.uniform(0.36, 0.46)
    back = path(
        (0, -high, 0.12),
        (wide * 0.85, -high * 0.62, 0.12),
        (wide, 0.06, 0.1),
        (torso.neck, 0.2),
        (0, 0.24),
    )
    inside = path(
        (0, -high * 0.72, 0.14),
        (wide * 0.52, -high * 0.4, 0.12),
        (torso.neck * 0.95, 0.04, 0.1),
        (0, 0.2),
    )
    rim = path(
        (0.02, 0.22),
        (torso.neck * 0.9, 0.03, -0.1),
        (wide * 0.55, -0.1, 0.05),
        (wide * 0.9, 0.06, 0.15),
    )
    cord = path((0.1, 0.14, 0.06), (0.12, rng.uniform(0.4, 0.55)))
    behind = (
        Panel(symmetric(back), relief=1.4),
        Panel(symmetric(inside), "lining", relief=0.3, tone=0.5),
    )
    front = (*both(Panel(rim, relief=1.2)), *both(Line(cord, 0.03, "light")))
    return behind, front


def _quilted_body(torso: Torso, step: float) -> Garment:
    """The body and one swelling panel per row of quilting."""
    rows: list[Panel] = []
    count = round((torso.length - 0.2) / step)
    edges = np.linspace(0.2, torso.length, count + 1)
    for top, bottom in itertools.pairwise(edges):
        width = [
            np.interp(
                y, [0.2, torso.armpit, torso.length], [torso.shoulder, torso.chest, torso.hem]
            )
            for y in (top, bottom)
        ]
        right = path((0, top), (width[0], top, 0.12), (width[1], bottom), (0, bottom))
        rows.append(Panel(symmetric(right), relief=2.2))
    return (Panel(torso.body(), relief=1.5), *rows)


def _quilted_sleeve(cut: WideCut, step: float) -> Garment:
    """The right sleeve and the seams across it."""
    torso, sleeve = cut.torso, cut.sleeve
    pieces: list[Panel | Line] = [sleeve.panel(torso, relief=2.0)]
    for reach in np.arange(step * 1.6, sleeve.length - 0.02, step):
        shorter = Sleeve(float(reach), sleeve.angle, sleeve.cuff * 1.12, sleeve.elbow)
        outer, inner = shorter.opening(torso)
        pieces.append(Line(path((*outer, -0.06), inner), 0.022))
    return tuple(pieces)
