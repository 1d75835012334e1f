"""Hats: caps, brimmed hats, beanies."""

import numpy as np

from model.clothing.garments.pieces import (
    Cloth,
    Garment,
    Line,
    Panel,
    Piece,
    both,
    ellipse,
    path,
    symmetric,
)


def hat(rng: np.random.Generator, limbs: float) -> Garment:
    """One kind of hat, seen from the front or the side."""
    makers = (_cap, _fedora, _beanie, _bucket, _top_hat)
    return makers[rng.integers(len(makers))](rng, limbs)


def _cap(rng: np.random.Generator, limbs: float) -> Garment:
    """A baseball cap from the side, its peak to the right."""
    high = rng.uniform(0.62, 0.78)
    crown = path((-0.72, 0.1, 0.2), (-0.1, -high, 0.2), (0.6, 0.1, -0.04))
    reach = 1.1 + 0.2 * limbs
    peak = path(
        (0.1, 0.06, 0.03),
        (0.58, -0.02, 0.12),
        (reach, 0.2, 0.12),
        (reach - 0.08, 0.28, -0.1),
        (0.4, 0.17, -0.05),
    )
    cloth: Cloth = "trim" if rng.random() < 0.5 else "main"
    seams = [Line(path((-0.1, -high, b), (x, 0.1)), 0.014) for x, b in ((-0.3, -0.12), (0.2, 0.12))]
    eyelets = [
        Panel(ellipse(x, -high * 0.5, 0.02, 0.025), "lining", relief=0, tone=0.4)
        for x in (-0.42, -0.06, 0.32)
    ]
    return (
        Panel(crown, relief=2.0),
        *seams,
        *eyelets,
        Line(path((-0.71, 0.06, -0.03), (0.58, 0.06)), 0.01, dashed=True),
        Panel(ellipse(-0.1, -high - 0.005, 0.06, 0.03), "trim", relief=0.8),
        Panel(peak, cloth, relief=1.2),
        Line(path((0.42, 0.12, 0.07), (reach - 0.12, 0.22)), 0.01, dashed=True),
        *_badge(rng, high),
    )


def _badge(rng: np.random.Generator, high: float) -> Garment:
    """Sometimes a patch on the crown."""
    if rng.random() < 0.5:
        return ()
    return (Panel(ellipse(0.26, -high * 0.25, 0.12, 0.13), "accent", relief=0.4),)


def _ribbon(width: float, top: float, bottom: float, sag: float) -> Panel:
    """A ribbon around a crown."""
    right = path((0, top + sag, -0.05), (width * 0.985, top), (width, bottom), (0, bottom + sag))
    return Panel(symmetric(right), "trim", relief=0.6)


def _fedora(rng: np.random.Generator, limbs: float) -> Garment:
    """A hat with a wide brim, a ribbon and a pinched or round crown."""
    width, high = rng.uniform(0.42, 0.5), rng.uniform(0.5, 0.65)
    reach, thick = rng.uniform(0.9, 1.15), 0.16 + 0.1 * limbs
    dent = rng.uniform(0.0, 0.12)
    brim = ellipse(0, 0.1, reach, thick)
    under = ellipse(0, 0.13, reach * 0.985, thick)
    right = path(
        (0, -high + dent, 0.05),
        (width * 0.55, -high, 0.14),
        (width * 0.86, -high * 0.7, 0.04),
        (width, 0.02, 0.1),
        (0, 0.16),
    )
    return (
        Panel(under, "lining", relief=0.4, tone=0.6),
        Panel(brim, relief=1.4),
        Panel(symmetric(right), relief=1.8),
        _ribbon(width * 0.99, -high * 0.3, 0.02, 0.09),
        Line(path((0, -high + dent, 0.1), (0.02, -high * 0.55)), 0.02),
    )


def _beanie(rng: np.random.Generator, _limbs: float) -> Garment:
    """A knitted cap with a turned-up edge and mostly a pompom."""
    width, high = rng.uniform(0.56, 0.64), rng.uniform(0.75, 0.95)
    right = path((0, -high, 0.2), (width, 0.0, 0.0), (width, 0.2), (0, 0.22))
    edge = path((0, -0.02), (width * 1.04, -0.04, 0.06), (width * 1.04, 0.26, 0.05), (0, 0.3))
    ribs: list[Piece] = [
        Line(path((x * width * 0.25, -high * 0.93, 0.1 * x), (x * width, 0.0)), 0.014)
        for x in np.linspace(-0.8, 0.8, 7)
    ]
    folds = [Line(path((x * width, 0.0), (x * width, 0.27)), 0.016) for x in np.linspace(-1, 1, 15)]
    pompom = Panel(ellipse(0, -high - 0.08, 0.17, 0.16), "trim", relief=2.0)
    return (
        Panel(symmetric(right), relief=1.8),
        *ribs,
        Panel(symmetric(edge), "trim" if rng.random() < 0.4 else "main", relief=1.0),
        *folds,
        *((pompom,) if rng.random() < 0.7 else ()),
    )


def _bucket(rng: np.random.Generator, _limbs: float) -> Garment:
    """A bucket hat: a flat crown and a sloping, stitched brim."""
    top, width, high = rng.uniform(0.34, 0.4), rng.uniform(0.46, 0.52), rng.uniform(0.48, 0.6)
    reach, fall = rng.uniform(0.78, 0.95), rng.uniform(0.26, 0.36)
    crown = path((0, -high, 0.02), (top, -high + 0.02, 0.06), (width, 0.02, 0.08), (0, 0.1))
    brim = path((0, 0.06, -0.04), (width, 0.0, 0.03), (reach, fall, 0.12), (0, fall + 0.14))
    stitches = []
    for t in (0.3, 0.55, 0.8):
        x, y = width + (reach - width) * t, fall * t
        stitches += list(
            both(Line(path((0, y + 0.06 + 0.08 * t, -0.06), (x, y)), 0.01, dashed=True))
        )
    lid = ellipse(0, -high + 0.03, top, 0.05)
    return (
        Panel(symmetric(crown), relief=1.5),
        Panel(lid, relief=0.8, tone=1.08),
        Panel(symmetric(brim), "trim" if rng.random() < 0.3 else "main", relief=1.2, tone=0.97),
        *stitches,
    )


def _top_hat(rng: np.random.Generator, limbs: float) -> Garment:
    """A tall, stiff hat with a curled brim, or a boater when it is low."""
    low = bool(rng.random() < 0.5)
    width, high = rng.uniform(0.45, 0.52), 0.45 if low else rng.uniform(0.85, 1.05)
    reach = rng.uniform(0.85, 1.0) if low else rng.uniform(0.72, 0.82)
    flare = 0.0 if low else 0.04
    right = path(
        (0, -high, 0.0), (width + flare, -high + 0.03, -0.03), (width, 0.02, 0.1), (0, 0.12)
    )
    brim = ellipse(0, 0.06, reach, 0.14 + 0.06 * limbs)
    return (
        Panel(brim, relief=1.5),
        Panel(symmetric(right), relief=1.8),
        Panel(ellipse(0, -high + 0.035, width + flare, 0.075), relief=0.5, tone=1.1),
        _ribbon(width, -0.2, 0.02, 0.08),
    )
