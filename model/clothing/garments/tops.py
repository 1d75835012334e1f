"""T-shirts, longsleeves and shirts."""

import numpy as np

from model.clothing.garments.pieces import (
    Cloth,
    Garment,
    Line,
    Panel,
    both,
    button,
    ellipse,
    path,
    symmetric,
)
from model.clothing.garments.torso import Sleeve, Torso, angle_of, hem_stitch, sleeves


def casual_torso(rng: np.random.Generator, pointed: float = 0.3) -> Torso:
    """The body of a jersey top, narrow or boxy."""
    chest = rng.uniform(0.46, 0.56)
    v_neck = bool(rng.random() < pointed)
    return Torso(
        neck=rng.uniform(0.16, 0.23),
        neck_depth=rng.uniform(0.24, 0.36) if v_neck else rng.uniform(0.1, 0.2),
        shoulder=chest - rng.uniform(0.0, 0.05),
        slope=rng.uniform(0.1, 0.16),
        chest=chest,
        armpit=rng.uniform(0.46, 0.54),
        waist=chest * rng.uniform(0.9, 1.0),
        hem=chest * rng.uniform(0.95, 1.06),
        length=rng.uniform(1.25, 1.5),
        pointed=v_neck,
    )


def t_shirt(rng: np.random.Generator, limbs: float) -> Garment:
    """A jersey body with sleeves that end above the elbow."""
    torso = casual_torso(rng)
    sleeve = Sleeve(
        length=rng.uniform(0.26, 0.4),
        angle=angle_of(limbs, lowest=1.1),
        cuff=rng.uniform(0.3, 0.38),
    )
    contrast: Cloth = "trim" if rng.random() < 0.3 else "main"
    return (
        torso.back_of_neck(),
        Panel(torso.body()),
        *sleeves(sleeve, torso, cloth=contrast if rng.random() < 0.4 else "main"),
        torso.collar_band(rng.uniform(0.035, 0.06), contrast),
        *both(sleeve.stitch(torso)),
        hem_stitch(torso),
        *_front_print(rng, torso),
    )


def _front_print(rng: np.random.Generator, torso: Torso) -> Garment:
    """Sometimes a printed shape on the chest."""
    kind = rng.integers(0, 4)
    y = torso.armpit + rng.uniform(0.05, 0.15)
    if kind == 0:
        radius = rng.uniform(0.12, 0.2)
        return (Panel(ellipse(0, y, radius, radius * rng.uniform(0.6, 1)), "accent", relief=0.0),)
    if kind == 1:
        width, height = rng.uniform(0.15, 0.28), rng.uniform(0.06, 0.15)
        right = path((0, y - height), (width, y - height), (width, y + height), (0, y + height))
        return (Panel(symmetric(right), "accent", relief=0.0),)
    return ()


def longsleeve(rng: np.random.Generator, limbs: float) -> Garment:
    """A jersey or knitted body with sleeves down to the wrist and no opening in front."""
    torso = casual_torso(rng, pointed=0.25)
    sleeve = Sleeve(
        length=rng.uniform(1.0, 1.2),
        angle=angle_of(limbs),
        cuff=rng.uniform(0.17, 0.23),
        elbow=rng.uniform(-0.05, 0.25),
    )
    contrast: Cloth = "trim" if rng.random() < 0.3 else "main"
    arms: Cloth = "trim" if rng.random() < 0.2 else "main"
    return (
        torso.back_of_neck(),
        Panel(torso.body()),
        *sleeves(sleeve, torso, cloth=arms),
        *_neck(rng, torso, contrast),
        *both(sleeve.cuff_band(torso, rng.uniform(0.07, 0.13), contrast)),
        *_hem(rng, torso, contrast),
        *(_front_print(rng, torso) if rng.random() < 0.4 else ()),
    )


def _neck(rng: np.random.Generator, torso: Torso, cloth: Cloth) -> Garment:
    """A band, or a turtleneck where the neckline is round."""
    if torso.pointed or rng.random() < 0.7:
        return (torso.collar_band(rng.uniform(0.04, 0.075), cloth),)
    top, width = -rng.uniform(0.1, 0.17), torso.neck * 0.92
    right = path((0, top, 0.02), (width, top), (torso.neck, 0.03, 0.16), (0, 0.11))
    rib = [
        Line(path((x * width, top), (x * torso.neck, 0.09 - 0.06 * x * x)), 0.007)
        for x in (-0.7, -0.35, 0.0, 0.35, 0.7)
    ]
    fold = Line(path((-width, top * 0.3, -0.06), (width, top * 0.3)), 0.012)
    return (Panel(symmetric(right), cloth, relief=0.8), *rib, fold)


def _hem(rng: np.random.Generator, torso: Torso, cloth: Cloth) -> Garment:
    """A ribbed waistband as on a sweater, or stitches."""
    if rng.random() < 0.5:
        return (hem_stitch(torso),)
    top = torso.length - rng.uniform(0.08, 0.13)
    width = torso.hem * 0.99
    right = path((0, top + 0.02), (width, top), (width * 0.97, torso.length), (0, torso.length))
    ribs = [
        Line(path((x * width, top + 0.02), (x * width, torso.length)), 0.007)
        for x in np.linspace(-0.95, 0.95, 17)
    ]
    return (Panel(symmetric(right), cloth, relief=0.6, tone=0.92), *ribs)


def shirt(rng: np.random.Generator, limbs: float) -> Garment:
    """A woven body with a turned-down collar, a button placket, cuffs and mostly a pocket."""
    torso = Torso(
        neck=rng.uniform(0.15, 0.18),
        neck_depth=rng.uniform(0.1, 0.15),
        shoulder=rng.uniform(0.48, 0.55),
        slope=rng.uniform(0.12, 0.16),
        chest=rng.uniform(0.48, 0.55),
        armpit=rng.uniform(0.48, 0.55),
        waist=rng.uniform(0.46, 0.5),
        hem=rng.uniform(0.48, 0.54),
        length=rng.uniform(1.35, 1.55),
        pointed=True,
    )
    long = bool(rng.random() < 0.75)
    sleeve = Sleeve(
        length=rng.uniform(1.0, 1.15) if long else rng.uniform(0.36, 0.46),
        angle=angle_of(limbs, lowest=1.38 if long else 1.1),
        cuff=rng.uniform(0.19, 0.24) if long else rng.uniform(0.33, 0.38),
        elbow=rng.uniform(0.0, 0.25) if long else 0.0,
    )
    return (
        torso.back_of_neck(0.05),
        Panel(torso.body(hem_drop=rng.uniform(0.0, 0.1))),
        *sleeves(sleeve, torso),
        *(_cuffs(sleeve, torso) if long else both(sleeve.stitch(torso))),
        *_placket(rng, torso),
        *_pockets(rng, torso),
        *_collar(rng, torso),
    )


def _cuffs(sleeve: Sleeve, torso: Torso) -> Garment:
    """Stiff cuffs with a button each."""
    cuff = sleeve.cuff_band(torso, 0.13)
    middle = cuff.outline.mean(axis=0)
    buttons = [piece for x in (1, -1) for piece in button(x * middle[0], middle[1], 0.02)]
    return (*both(cuff), *buttons)


def _placket(rng: np.random.Generator, torso: Torso) -> Garment:
    """The strip with the buttons, down the middle of the front."""
    half, top, bottom = 0.045, torso.neck_depth, torso.length + 0.01
    strip = symmetric(path((0, top), (half, top - 0.02), (half, bottom), (0, bottom)))
    seams = [Line(path((x, top), (x, bottom)), 0.01) for x in (-half, half)]
    count = int(rng.integers(6, 9))
    radius = rng.uniform(0.022, 0.03)
    places = np.linspace(top + 0.1, bottom - 0.12, count)
    buttons = [piece for y in places for piece in button(0, float(y), radius)]
    cloth: Cloth = "trim" if rng.random() < 0.15 else "main"
    return (Panel(strip, cloth, relief=0.5, tone=1.03), *seams, *buttons)


def _pockets(rng: np.random.Generator, torso: Torso) -> Garment:
    """One chest pocket, two or none."""
    count = rng.integers(0, 3)
    x, y, size = 0.26, torso.armpit + 0.02, rng.uniform(0.09, 0.11)
    outline = path(
        (x - size, y - size),
        (x + size, y - size),
        (x + size, y + size * 0.8),
        (x, y + size * 1.15),
        (x - size, y + size * 0.8),
        (x - size, y - size),
    )
    pocket = Panel(outline[:-1], relief=0.4, tone=1.02)
    rim = Line(outline, 0.009)
    flap = Line(path((x - size, y - size * 0.6), (x + size, y - size * 0.6)), 0.009)
    return ((), (pocket, rim, flap), (*both(pocket), *both(rim), *both(flap)))[count]


def _collar(rng: np.random.Generator, torso: Torso) -> Garment:
    """The two points of a turned-down collar, and its stand behind them."""
    reach, drop = rng.uniform(0.17, 0.25), rng.uniform(0.16, 0.24)
    cloth: Cloth = "trim" if rng.random() < 0.2 else "main"
    rise = 0.07
    leaf = path(
        (0.012, torso.neck_depth + 0.01),
        (torso.neck * 0.82, -rise * 0.6, 0.05),
        (torso.neck + 0.05, 0.03),
        (reach, torso.neck_depth + drop, -0.03),
        (0.012, torso.neck_depth + 0.01),
    )
    stand = symmetric(path((0, -rise, 0.04), (torso.neck * 0.85, -rise * 0.6), (0, 0.0)))
    return (
        Panel(stand, "lining", relief=0.5, tone=0.8),
        *both(Panel(leaf[:-1], cloth, relief=0.7, tone=1.06)),
        *both(Line(leaf, 0.012)),
    )
