"""Everything about a picture that must not depend on what garment is in it."""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.clothing import backgrounds, fabrics, poses
from model.clothing.backgrounds import Background, Color
from model.clothing.garments.pieces import Cloth
from model.clothing.poses import Pose


@dataclass(frozen=True)
class Families:
    """The patterns, backgrounds and poses that one split's pictures are made of."""

    name: str
    patterns: Mapping[str, fabrics.Maker]
    backgrounds: Mapping[str, Background]
    poses: Mapping[str, poses.PoseFamily]


TRAINING = Families("training", fabrics.TRAINING, backgrounds.TRAINING, poses.TRAINING)
HELD_OUT = Families("held-out", fabrics.HELD_OUT, backgrounds.HELD_OUT, poses.HELD_OUT)


@dataclass(frozen=True)
class Scene:
    """Colors 0 to 1, names of the families drawn, light from an angle, and the camera's faults."""

    pattern: str
    background: str
    pose: Pose
    cloth: Mapping[Cloth, Color]
    second: Color
    ground: tuple[Color, Color]
    light: float
    contrast: float
    folds: float
    exposure: float
    noise: float
    width: int
    height: int
    quality: int
    subsampling: int


def draw_scene(rng: np.random.Generator, families: Families) -> Scene:
    """A random scene; it never learns the garment's label."""
    main = _color(rng)
    ground = _away_from(rng, main, 0.3)
    trim = _away_from(rng, main, 0.25)
    width = int(rng.integers(300, 420))
    return Scene(
        pattern=str(rng.choice(sorted(families.patterns))),
        background=str(rng.choice(sorted(families.backgrounds))),
        pose=poses.draw_pose(rng, families.poses),
        cloth={
            "main": main,
            "trim": trim,
            "accent": _away_from(rng, main, 0.4),
            "lining": np.clip(main * np.float32(0.5) + trim * np.float32(0.3), 0, 1),
            "metal": np.full(3, rng.uniform(0.6, 0.85), np.float32),
        },
        second=_near(rng, main, rng.uniform(0.2, 0.7)),
        ground=(ground, _near(rng, ground, rng.uniform(0.1, 0.35))),
        light=rng.uniform(0, 2 * np.pi),
        contrast=rng.uniform(0.6, 1.2),
        folds=rng.uniform(0.1, 0.4),
        exposure=rng.uniform(0.85, 1.1),
        noise=rng.uniform(0.0, 0.035),
        width=width,
        height=round(width * rng.uniform(1.0, 4 / 3)),
        quality=int(rng.integers(55, 96)),
        subsampling=int(rng.integers(0, 3)),
    )


def _color(rng: np.random.Generator) -> Color:
    """A cloth's color: any hue, often muted, from nearly black to nearly white."""
    saturation = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.15, 0.85)])
    rgb = colorsys.hsv_to_rgb(rng.random(), float(saturation), rng.uniform(0.18, 0.97))
    return np.array(rgb, np.float32)


def _away_from(rng: np.random.Generator, other: Color, distance: float) -> Color:
    """A color whose brightness differs from the other's by at least that."""
    weights = np.array([0.3, 0.59, 0.11], np.float32)
    while True:
        color = _color(rng)
        if abs(float((color - other) @ weights)) >= distance:
            return color


def _near(rng: np.random.Generator, color: Color, share: float) -> Color:
    """The color mixed with that share of another."""
    return np.asarray(color * np.float32(1 - share) + _color(rng) * np.float32(share))
