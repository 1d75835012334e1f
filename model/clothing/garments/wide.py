"""The wide body and sleeves that outwear is cut from."""

from dataclasses import dataclass

import numpy as np

from model.clothing.garments.torso import Sleeve, Torso, angle_of


@dataclass(frozen=True)
class WideCut:
    """What all outwear has."""

    torso: Torso
    sleeve: Sleeve


def wide_cut(rng: np.random.Generator, limbs: float, length: float, neck_depth: float) -> WideCut:
    """A wide body with wide, long sleeves."""
    chest = rng.uniform(0.54, 0.62)
    torso = Torso(
        neck=rng.uniform(0.17, 0.21),
        neck_depth=neck_depth,
        shoulder=chest * rng.uniform(0.95, 1.0),
        slope=rng.uniform(0.12, 0.17),
        chest=chest,
        armpit=rng.uniform(0.56, 0.62),
        waist=chest * rng.uniform(0.95, 1.02),
        hem=chest * rng.uniform(1.0, 1.12),
        length=length,
        pointed=True,
    )
    sleeve = Sleeve(
        length=rng.uniform(1.08, 1.22),
        angle=angle_of(limbs, lowest=1.36, highest=0.5),
        cuff=rng.uniform(0.26, 0.32),
        elbow=rng.uniform(0.0, 0.22),
    )
    return WideCut(torso, sleeve)
