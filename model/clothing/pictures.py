"""Draws the pictures the clothing model learns from: `python -m model.clothing.pictures --help`.

A picture is decided by its split, seed and index alone. The scene — colors, pattern, background,
pose, light, camera — comes from a stream of random numbers that never sees the label.
"""

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from model.clothing.garments import CUTS, cut
from model.clothing.poses import place
from model.clothing.rendering import Painter, fold_field, paint, photographed
from model.clothing.scenes import HELD_OUT, TRAINING, Families, Scene, draw_scene

LABELS = tuple(sorted(CUTS))
Split = Literal["training", "held-out"]
SPLITS: dict[Split, Families] = {"training": TRAINING, "held-out": HELD_OUT}
SAMPLE_SIZE = (400, 533)


@dataclass(frozen=True)
class Picture:
    """A drawn picture: its label, the scene it was drawn in and its JPEG bytes."""

    label: str
    scene: Scene
    jpeg: bytes


def draw(split: Split, seed: int, index: int) -> Picture:
    """The picture at that index; labels take turns, so every ten in a row hold each once."""
    label = LABELS[index % len(LABELS)]
    streams = _streams(split, seed, index)
    return _drawn(label, draw_scene(streams[0], SPLITS[split]), split, streams)


def scene_at(split: Split, seed: int, index: int) -> Scene:
    """The scene that the picture at that index is drawn in, without drawing it."""
    return draw_scene(_streams(split, seed, index)[0], SPLITS[split])


def sample_picture(label: str, seed: int) -> bytes:
    """JPEG bytes of a held-out picture of that label, 400 x 533."""
    streams = _streams("held-out", seed, LABELS.index(label))
    scene = draw_scene(streams[0], HELD_OUT)
    width, height = SAMPLE_SIZE
    sized = replace(scene, width=width, height=height, quality=90)
    return _drawn(label, sized, "held-out", streams).jpeg


def _streams(split: Split, seed: int, index: int) -> list[np.random.Generator]:
    """Independent random numbers for the scene, the garment and the paint."""
    place_of = list(SPLITS).index(split)
    sequence = np.random.SeedSequence((seed, place_of, index))
    return [np.random.default_rng(child) for child in sequence.spawn(3)]


def _drawn(
    label: str, scene: Scene, split: Split, streams: Sequence[np.random.Generator]
) -> Picture:
    _, shape, brush = streams
    garment = cut(label, shape, scene.pose.limbs)
    points = np.concatenate([piece.points for piece in garment])
    families = SPLITS[split]
    ground = families.backgrounds[scene.background]
    painter = Painter(
        canvas=ground(brush, scene.height, scene.width, scene.ground).astype(np.float32),
        scene=scene,
        pattern=families.patterns[scene.pattern](brush),
        placement=place(scene.pose, points, scene.width, scene.height),
        folds=fold_field(brush, scene),
    )
    paint(painter, garment)
    return Picture(label, scene, photographed(brush, painter.canvas, scene))


def contact_sheet(pictures: Sequence[Picture], columns: int = 10, side: int = 150) -> Image.Image:
    """The pictures, numbered and unlabeled, in rows."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for number, picture in enumerate(pictures):
        thumbnail = Image.open(io.BytesIO(picture.jpeg))
        thumbnail.thumbnail((side - 4, side - 4))
        corner = (number % columns * side, number // columns * side)
        sheet.paste(thumbnail, corner)
        ImageDraw.Draw(sheet).text((corner[0] + 2, corner[1] + 2), str(number), "red")
    return sheet


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw garments.")
    parser.add_argument("--sheet", type=Path, help="write a numbered contact sheet (PNG) here")
    parser.add_argument("--output", type=Path, help="write sample JPEGs below this directory")
    parser.add_argument("--answers", type=Path, help="write the sheet's labels here, by number")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=list(SPLITS), default="held-out")
    wanted = parser.parse_args(arguments)
    if not wanted.sheet and not wanted.output:
        parser.error("say what to draw: --sheet FILE.png or --output DIRECTORY")
    return wanted


def main(arguments: Sequence[str] | None = None) -> None:
    """Write what the command line asks for."""
    wanted = _arguments(arguments)
    if wanted.sheet:
        order = np.random.default_rng(wanted.seed).permutation(wanted.count)
        pictures = [draw(wanted.split, wanted.seed, int(index)) for index in order]
        contact_sheet(pictures).save(wanted.sheet)
        if wanted.answers:
            lines = (f"{number} {picture.label}\n" for number, picture in enumerate(pictures))
            wanted.answers.write_text("".join(lines))
    if wanted.output:
        wanted.output.mkdir(parents=True, exist_ok=True)
        for label in LABELS:
            (wanted.output / f"{label}.jpg").write_bytes(sample_picture(label, wanted.seed))


if __name__ == "__main__":
    main()
