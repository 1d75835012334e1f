"""Bodies and sleeves, which everything worn above the waist is cut from."""

import math
from dataclasses import dataclass

import numpy as np

from model.clothing.garments.pieces import (
    Cloth,
    Garment,
    Line,
    Panel,
    Points,
    band,
    both,
    mirrored,
    path,
    symmetric,
)


@dataclass(frozen=True)
class Torso:
    """A body's measures: half widths across, and how far down each lies."""

    neck: float
    neck_depth: float
    shoulder: float
    slope: float
    chest: float
    armpit: float
    waist: float
    hem: float
    length: float
    pointed: bool = False

    @property
    def neckline(self) -> Points:
        """The right half of the front neckline, from its lowest point up to the shoulder."""
        bulge = 0.04 if self.pointed else -0.24
        return path((0, self.neck_depth, bulge), (self.neck, 0))

    def body(self, hem_drop: float = 0.02) -> Points:
        """The outline of the front."""
        side = path(
            (self.neck, 0, 0.02),
            (self.shoulder, self.slope, -0.06),
            (self.chest, self.armpit, -0.03),
            (self.waist, (self.armpit + self.length) / 2, 0.02),
            (self.hem, self.length, 0.02),
            (0, self.length + hem_drop),
        )
        return symmetric(np.concatenate([self.neckline[:-1], side]))

    def back_of_neck(self, rise: float = 0.03) -> Panel:
        """The inside of the back, seen through the neck opening."""
        right = path((0, -rise, 0.06), (self.neck, 0, 0.2), (0, self.neck_depth + 0.05))
        return Panel(symmetric(right), cloth="lining", relief=0.2, tone=0.62)

    def collar_band(self, width: float, cloth: Cloth = "main") -> Panel:
        """A ribbed band along the neckline."""
        whole = np.concatenate([mirrored(self.neckline), self.neckline[1:]])
        return Panel(band(whole, width), cloth=cloth, relief=0.7, tone=0.93)


@dataclass(frozen=True)
class Sleeve:
    """A sleeve's measures: angle below the horizontal in radians, elbow the turn halfway."""

    length: float
    angle: float
    cuff: float
    elbow: float = 0.0

    def outline(self, torso: Torso) -> Points:
        """The outline of the right sleeve on that body."""
        (ex, ey), (ox, oy), (ix, iy) = self._elbow(torso), *self.opening(torso)
        second = self.angle + self.elbow
        upper = math.dist((torso.shoulder, torso.slope), (torso.chest, torso.armpit))
        width = (upper * 0.85 + self.cuff) / 2
        inner = (ex - width * math.sin(second), ey + width * math.cos(second))
        return path(
            (torso.shoulder - 0.03, torso.slope - 0.004, 0.04),
            (ex, ey, 0.03),
            (ox, oy),
            (ix, iy, -0.02),
            (*inner, -0.02),
            (torso.chest - 0.01, torso.armpit, 0.05),
        )

    def _elbow(self, torso: Torso) -> tuple[float, float]:
        half = self.length / 2
        return (
            torso.shoulder + half * math.cos(self.angle),
            torso.slope + half * math.sin(self.angle),
        )

    def opening(self, torso: Torso) -> tuple[tuple[float, float], tuple[float, float]]:
        """The cuff's outer and inner end."""
        second = self.angle + self.elbow
        ex, ey = self._elbow(torso)
        half = self.length / 2
        outer = (ex + half * math.cos(second), ey + half * math.sin(second))
        inner = (outer[0] - self.cuff * math.sin(second), outer[1] + self.cuff * math.cos(second))
        return outer, inner

    def panel(self, torso: Torso, cloth: Cloth = "main", relief: float = 1.0) -> Panel:
        """The right sleeve."""
        return Panel(
            self.outline(torso),
            cloth=cloth,
            grain=self.angle + self.elbow / 2 - math.pi / 2,
            relief=relief,
        )

    def cuff_band(self, torso: Torso, width: float, cloth: Cloth = "main") -> Panel:
        """A band around the right sleeve's end, a little inside it."""
        outer, inner = self.opening(torso)
        second = self.angle + self.elbow
        back = np.array([math.cos(second), math.sin(second)]) * width / 2
        line = path(outer, inner) - back
        return Panel(band(line, width), cloth=cloth, relief=0.8, tone=0.9)

    def stitch(self, torso: Torso, distance: float = 0.035) -> Line:
        """A line of stitches along the right sleeve's end."""
        outer, inner = self.opening(torso)
        second = self.angle + self.elbow
        back = np.array([math.cos(second), math.sin(second)]) * distance
        return Line(path(outer, inner) - back, width=0.008, dashed=True)


def hem_stitch(torso: Torso, distance: float = 0.04, drop: float = 0.02) -> Line:
    """A line of stitches above the hem."""
    y = torso.length - distance
    right = path((0, y + drop, -0.02), (torso.hem - 0.01, y))
    return Line(np.concatenate([mirrored(right), right[1:]]), width=0.008, dashed=True)


def sleeves(sleeve: Sleeve, torso: Torso, cloth: Cloth = "main", relief: float = 1.0) -> Garment:
    """Both sleeves."""
    return both(sleeve.panel(torso, cloth, relief))


def angle_of(limbs: float, lowest: float = 1.38, highest: float = 0.3) -> float:
    """The sleeves' angle for limbs from 0 (hanging down) to 1 (spread)."""
    return lowest + (highest - lowest) * limbs
