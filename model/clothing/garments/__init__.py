"""How each of the ten garments is cut: `cut(label, rng, limbs)`."""

from collections.abc import Callable, Mapping

import numpy as np

from model.clothing.garments.dresses import dress
from model.clothing.garments.hats import hat
from model.clothing.garments.outwear import outwear
from model.clothing.garments.pieces import Garment, Line, Panel, Piece
from model.clothing.garments.shoes import shoes
from model.clothing.garments.skirts import skirt
from model.clothing.garments.tops import longsleeve, shirt, t_shirt
from model.clothing.garments.trousers import pants, shorts

__all__ = ["CUTS", "Garment", "Line", "Panel", "Piece", "cut"]

Cut = Callable[[np.random.Generator, float], Garment]

CUTS: Mapping[str, Cut] = {
    "dress": dress,
    "hat": hat,
    "longsleeve": longsleeve,
    "outwear": outwear,
    "pants": pants,
    "shirt": shirt,
    "shoes": shoes,
    "shorts": shorts,
    "skirt": skirt,
    "t-shirt": t_shirt,
}


def cut(label: str, rng: np.random.Generator, limbs: float) -> Garment:
    """A garment of that label, back to front; limbs from 0 to 1 spreads sleeves and legs."""
    return CUTS[label](rng, limbs)
