"""How a garment lies in front of the camera: family by family, with ranges that do not overlap."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.clothing.garments.pieces import Points
from model.clothing.noise import Field

Range = tuple[float, float]


@dataclass(frozen=True)
class PoseFamily:
    """Ranges a pose is drawn from; turn and keystone get a random sign.

    turn is in degrees; keystone narrows the far side, across or down; bend curves the garment's
    middle line; limbs spreads sleeves and legs.
    """

    turn: Range
    across: Range = (0.0, 0.04)
    down: Range = (0.0, 0.04)
    bend: Range = (0.0, 0.015)
    limbs: Range = (0.0, 1.0)


TRAINING: Mapping[str, PoseFamily] = {
    "straight": PoseFamily(turn=(0, 6)),
    "tilted": PoseFamily(turn=(8, 18)),
    "leaning": PoseFamily(turn=(0, 18), down=(0.05, 0.16)),
}
HELD_OUT: Mapping[str, PoseFamily] = {
    "turned": PoseFamily(turn=(19, 25)),
    "from the side": PoseFamily(turn=(0, 10), across=(0.08, 0.18)),
    "swung": PoseFamily(turn=(2, 12), bend=(0.03, 0.06)),
}


@dataclass(frozen=True)
class Pose:
    """One pose of a family: angles in radians, wobble the unevenness of a garment laid by hand."""

    family: str
    turn: float
    across: float
    down: float
    bend: float
    limbs: float
    flipped: bool
    fill: float
    offset: tuple[float, float]
    wobble: tuple[float, ...]


def draw_pose(rng: np.random.Generator, families: Mapping[str, PoseFamily]) -> Pose:
    """A random pose of one of the families."""
    name = str(rng.choice(sorted(families)))
    family = families[name]
    return Pose(
        family=name,
        turn=math.radians(rng.uniform(*family.turn)) * rng.choice([-1, 1]),
        across=rng.uniform(*family.across) * rng.choice([-1, 1]),
        down=rng.uniform(*family.down) * rng.choice([-1, 1]),
        bend=rng.uniform(*family.bend) * rng.choice([-1, 1]),
        limbs=rng.uniform(*family.limbs),
        flipped=bool(rng.random() < 0.5),
        fill=rng.uniform(0.72, 0.96),
        offset=(rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)),
        wobble=tuple(rng.uniform(-1, 1, 8)),
    )


@dataclass(frozen=True)
class Placement:
    """Where a posed garment's points fall in a picture."""

    pose: Pose
    middle: Points
    extent: float
    matrix: Points

    def pixels(self, points: Points) -> Points:
        """Garment coordinates to pixels (x, y)."""
        return _projected(self.matrix, self._bent(points))

    @property
    def scale(self) -> float:
        """Pixels per garment unit, about."""
        return float(math.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))

    def _bent(self, points: Points) -> Points:
        return _bent(self.pose, points, self.middle, self.extent)

    def cloth(self, top: int, left: int, height: int, width: int) -> tuple[Field, Field]:
        """The garment coordinates (across, down) of every pixel in a box."""
        inverse = np.linalg.inv(self.matrix).astype(np.float32)
        y, x = np.mgrid[top : top + height, left : left + width].astype(np.float32)
        u, v, w = (row[0] * x + row[1] * y + row[2] for row in inverse)
        return u / w, v / w


def _projected(matrix: Points, points: Points) -> Points:
    ones = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ matrix.T
    return np.asarray(ones[:, :2] / ones[:, 2:])


def _bent(pose: Pose, points: Points, middle: Points, extent: float) -> Points:
    """The points after the bend of the whole and the small wobble."""
    place = (points - middle) / extent
    w = pose.wobble
    swing = pose.bend * 2 * np.cos(place[:, 1] * math.pi)
    dx = swing + 0.012 * (
        w[0] * np.sin(3 * place[:, 1] + w[1] * 3) + w[2] * np.sin(7 * place[:, 1] + w[3] * 3)
    )
    dy = 0.012 * (
        w[4] * np.sin(3 * place[:, 0] + w[5] * 3) + w[6] * np.sin(7 * place[:, 0] + w[7] * 3)
    )
    return np.asarray(points + np.stack([dx, dy], axis=1) * extent)


def place(pose: Pose, points: Points, width: int, height: int) -> Placement:
    """A placement that fits all of a garment's points into a picture with a margin."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    extent = float(np.ptp(points, axis=0).max())
    turned = _view(pose, middle, extent)
    seen = _projected(turned, _bent(pose, points, middle, extent))
    low, size = seen.min(axis=0), np.ptp(seen, axis=0)
    scale = pose.fill * min(width / size[0], height / size[1])
    free = np.array([width, height]) - size * scale
    corner = free * (0.5 + 0.7 * np.array(pose.offset))
    shift = np.array([[scale, 0, 0], [0, scale, 0], [0, 0, 1.0]])
    shift[:2, 2] = corner - low * scale
    return Placement(pose, middle, extent, shift @ turned)


def _view(pose: Pose, middle: Points, extent: float) -> Points:
    """The projection about the garment's middle: mirror, turn, keystone."""
    c, s = math.cos(pose.turn), math.sin(pose.turn)
    mirror = -1.0 if pose.flipped else 1.0
    centre = np.array([[1, 0, -middle[0]], [0, 1, -middle[1]], [0, 0, 1.0]])
    turn = np.array([[c * mirror, -s, 0], [s * mirror, c, 0], [0, 0, 1.0]])
    keystone = np.array(
        [[1, 0, 0], [0, 1, 0], [pose.across * 2 / extent, pose.down * 2 / extent, 1.0]]
    )
    return np.asarray(keystone @ turn @ centre)
