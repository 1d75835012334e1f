"""Outwear: jackets and coats."""

import numpy as np

from model.clothing.garments.coats import coat, open_coat
from model.clothing.garments.jackets import bomber, hooded, padded
from model.clothing.garments.pieces import Garment


def outwear(rng: np.random.Generator, limbs: float) -> Garment:
    """One of a bomber, a hooded jacket, a padded one, a closed coat, an open one."""
    makers = (bomber, hooded, padded, coat, open_coat)
    return makers[rng.integers(len(makers))](rng, limbs)
