"""Skirts, and the skirts of dresses."""

import numpy as np

from model.clothing.garments.pieces import (
    Cloth,
    Garment,
    Line,
    Panel,
    Piece,
    Points,
    button,
    mirrored,
    path,
    symmetric,
    waist_opening,
)


def skirt(rng: np.random.Generator, limbs: float) -> Garment:
    """A waistband and cloth around both legs: narrow, flared, pleated or tiered."""
    waist = rng.uniform(0.3, 0.36)
    length = rng.uniform(0.75, 1.45)
    flare = rng.uniform(0.12, 0.3) if rng.random() < 0.3 else rng.uniform(0.3, 0.62)
    hem = waist + flare * (0.8 + 0.4 * limbs)
    height = rng.uniform(0.08, 0.13)
    right = path((0, 0.015, 0.02), (waist, 0), (waist + 0.02, height), (0, height + 0.015))
    cloth: Cloth = "trim" if rng.random() < 0.35 else "main"
    return (
        waist_opening(waist, 0.055),
        *draped(rng, waist, hem, length),
        Panel(symmetric(right), cloth, relief=0.7, tone=0.92),
        *(button(0, height * 0.55, 0.026) if rng.random() < 0.3 else ()),
    )


def draped(rng: np.random.Generator, waist: float, hem: float, length: float) -> Garment:
    """A skirt's cloth below the waistband: pleated, tiered or smooth."""
    makers = (_pleats, _tiers, _smooth)
    return makers[rng.integers(len(makers))](rng, waist, hem, length)


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


def _smooth(rng: np.random.Generator, waist: float, hem: float, length: float) -> Garment:
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
