"""Patterns on cloth, in two families: training sees one, held-out pictures are made of the other.

A pattern is a function of two fields, across and down the cloth in garment units, to the share
of the second color, 0 to 1.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from model.clothing.noise import Field, clouds

Pattern = Callable[[Field, Field], Field]
Maker = Callable[[np.random.Generator], Pattern]
TILE = 128


def _edge(wave: Field, softness: float = 0.15) -> Field:
    """A wave of -1 to 1 made into two tones with soft edges, 0 to 1."""
    return np.asarray(np.clip(wave / np.float32(2 * softness) + np.float32(0.5), 0, 1))


def _tile(tile: Field, u: Field, v: Field, repeats: float) -> Field:
    """A tile's values at u, v, the tile repeated that often per unit."""
    scale = np.float32(TILE * repeats)
    rows = (v * scale).astype(np.int32) % TILE
    columns = (u * scale).astype(np.int32) % TILE
    return np.asarray(tile[rows, columns])


def plain(_rng: np.random.Generator) -> Pattern:
    """One color."""
    return lambda u, _: np.zeros_like(u)


def across(rng: np.random.Generator) -> Pattern:
    """Stripes across."""
    count, share = rng.uniform(30, 75), rng.uniform(-0.6, 0.6)
    return lambda _, v: _edge(np.sin(v * np.float32(count)) - np.float32(share))


def dots(rng: np.random.Generator) -> Pattern:
    """Dots in a grid, every second row shifted."""
    count, size = rng.uniform(5, 10), rng.uniform(0.05, 0.13)

    def pattern(u: Field, v: Field) -> Field:
        row = np.floor(v * np.float32(count))
        x = (u * np.float32(count) + row * np.float32(0.5)) % 1 - np.float32(0.5)
        y = (v * np.float32(count)) % 1 - np.float32(0.5)
        return _edge(np.float32(size) - (x * x + y * y), 0.02)

    return pattern


def melange(rng: np.random.Generator) -> Pattern:
    """Fine speckles, as in mixed yarn."""
    tile, share = rng.random((TILE, TILE), np.float32), np.float32(rng.uniform(0.2, 0.6))
    repeats = rng.uniform(0.5, 1.2)
    return lambda u, v: _tile(tile, u, v, repeats) * share


def knit(rng: np.random.Generator) -> Pattern:
    """Columns of V-shaped stitches."""
    count = np.float32(rng.uniform(70, 120))

    def pattern(u: Field, v: Field) -> Field:
        slant = np.abs((u * count / np.float32(1.8)) % 2 - 1)
        wave = np.sin(v * count + slant * 3)
        return np.asarray((wave + 1) * np.float32(0.3))

    return pattern


def blotches(rng: np.random.Generator) -> Pattern:
    """Large soft spots, as on dyed cloth."""
    tile, repeats = clouds(rng, TILE, TILE, 6), rng.uniform(0.4, 0.7)
    return lambda u, v: _edge(_tile(tile, u, v, repeats), 0.25)


def slanted(rng: np.random.Generator) -> Pattern:
    """Diagonal stripes, to either side."""
    count, share = rng.uniform(25, 60), np.float32(rng.uniform(-0.5, 0.5))
    lean = np.float32(rng.uniform(0.6, 1.4) * rng.choice([-1, 1]))
    return lambda u, v: _edge(np.sin((u + v * lean) * np.float32(count)) - share)


def contours(rng: np.random.Generator) -> Pattern:
    """Winding lines, as on a map."""
    field = np.sin(clouds(rng, TILE, TILE, 4) * np.float32(rng.uniform(8, 16)))
    tile, repeats = _edge(field, 0.3), rng.uniform(0.6, 1.0)
    return lambda u, v: _tile(tile, u, v, repeats)


def patchwork(rng: np.random.Generator) -> Pattern:
    """Squares of random tones."""
    tones = rng.random((TILE, TILE), np.float32)
    tile = tones if rng.random() < 0.5 else np.round(tones)
    repeats = rng.uniform(5, 14) / TILE
    return lambda u, v: _tile(tile, u, v, repeats)


def upright(rng: np.random.Generator) -> Pattern:
    """Stripes down the cloth, pairs of a wide and a narrow one."""
    count = np.float32(rng.uniform(30, 60))
    return lambda u, _: _edge(np.sin(u * count) + np.float32(0.5) * np.sin(u * count * 2) - 0.4)


def checks(rng: np.random.Generator) -> Pattern:
    """Crossed bands, half tone where one lies on the other."""
    count, offset = np.float32(rng.uniform(20, 45)), np.float32(rng.uniform(-0.3, 0.5))

    def pattern(u: Field, v: Field) -> Field:
        bands = _edge(np.sin(u * count) - offset) + _edge(np.sin(v * count) - offset)
        return np.asarray(bands / 2)

    return pattern


def zigzag(rng: np.random.Generator) -> Pattern:
    """Rows of zigzag."""
    count, width = np.float32(rng.uniform(28, 50)), np.float32(rng.uniform(5, 10))

    def pattern(u: Field, v: Field) -> Field:
        return _edge(np.sin(v * count + np.float32(3) * np.abs((u * width) % 2 - 1)))

    return pattern


def diamonds(rng: np.random.Generator) -> Pattern:
    """A lattice of thin crossing diagonals."""
    count, width = np.float32(rng.uniform(12, 24)), np.float32(rng.uniform(0.12, 0.25))

    def pattern(u: Field, v: Field) -> Field:
        first, second = np.sin((u + v) * count), np.sin((u - v) * count)
        return _edge(width - np.minimum(np.abs(first), np.abs(second)), 0.06)

    return pattern


def petals(rng: np.random.Generator) -> Pattern:
    """Small five-petaled flowers, scattered."""
    count, petal = rng.uniform(3.5, 6), rng.uniform(0.1, 0.16)

    def pattern(u: Field, v: Field) -> Field:
        row = np.floor(v * np.float32(count))
        x = (u * np.float32(count) + np.float32(0.37) * row) % 1 - np.float32(0.5)
        y = (v * np.float32(count)) % 1 - np.float32(0.5)
        angle, radius = np.arctan2(y, x), np.hypot(x, y)
        reach = np.float32(petal) * (2 + np.cos(angle * 5 + row))
        return _edge(reach - radius, 0.04)

    return pattern


TRAINING: Mapping[str, Maker] = {
    "plain": plain,
    "across": across,
    "dots": dots,
    "melange": melange,
    "knit": knit,
    "blotches": blotches,
    "slanted": slanted,
    "contours": contours,
    "patchwork": patchwork,
}
HELD_OUT: Mapping[str, Maker] = {
    "upright": upright,
    "checks": checks,
    "zigzag": zigzag,
    "diamonds": diamonds,
    "petals": petals,
}


def turned(u: Field, v: Field, angle: float) -> tuple[Field, Field]:
    """The fields as seen by cloth that is turned by radians."""
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return u * c + v * s, v * c - u * s
