"""The drawn garments: repeatable, varied, and nothing but the garment tells the label."""

import hashlib
import io
import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from sklearn.feature_selection import chi2
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from model.clothing import pictures
from model.clothing.backgrounds import Color
from model.clothing.garments import cut
from model.clothing.garments.pieces import band, both, path, symmetric
from model.clothing.pictures import LABELS, Split, contact_sheet, draw, sample_picture, scene_at
from model.clothing.poses import draw_pose, place
from model.clothing.scenes import HELD_OUT, TRAINING, Families, Scene

TEN = [
    *("dress", "hat", "longsleeve", "outwear", "pants"),
    *("shirt", "shoes", "shorts", "skirt", "t-shirt"),
]
SCENES = 3000


def pixels(jpeg: bytes, side: int) -> np.ndarray[Any, Any]:
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), float).ravel() / 255


def test_the_ten_labels_take_turns() -> None:
    assert list(LABELS) == TEN
    assert [draw("training", 1, index).label for index in range(10, 20)] == TEN


def test_a_split_a_seed_and_an_index_always_draw_the_same_bytes_in_any_process() -> None:
    here = hashlib.sha256(draw("held-out", 5, 13).jpeg).hexdigest()
    program = (
        "import hashlib; from model.clothing.pictures import draw;"
        "draw('held-out', 1, 1);"
        "print(hashlib.sha256(draw('held-out', 5, 13).jpeg).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        cwd=Path(pictures.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here


@pytest.mark.parametrize("other", [("training", 5, 13), ("held-out", 6, 13), ("held-out", 5, 23)])
def test_another_split_seed_or_index_draws_another_picture(other: tuple[Split, int, int]) -> None:
    assert draw(*other).jpeg != draw("held-out", 5, 13).jpeg


def test_every_garment_of_a_label_is_cut_differently() -> None:
    for label in LABELS:
        garments = [cut(label, np.random.default_rng(seed), 0.5) for seed in range(12)]
        outlines = {
            np.concatenate([piece.points for piece in garment]).tobytes() for garment in garments
        }
        assert len(outlines) == 12, label


def test_held_out_pictures_share_no_pattern_background_or_pose_with_training() -> None:
    for kind in ("patterns", "backgrounds"):
        seen, unseen = getattr(TRAINING, kind), getattr(HELD_OUT, kind)
        assert len(seen) >= 4
        assert len(unseen) >= 3
        assert not set(seen) & set(unseen)
        assert not set(seen.values()) & set(unseen.values())


def test_each_held_out_pose_lies_outside_of_every_training_pose_in_some_way() -> None:
    assert not set(TRAINING.poses) & set(HELD_OUT.poses)
    for seen, unseen in itertools.product(TRAINING.poses.values(), HELD_OUT.poses.values()):
        apart = [
            getattr(unseen, way)[0] > getattr(seen, way)[1]
            for way in ("turn", "across", "down", "bend")
        ]
        assert any(apart), (seen, unseen)


@pytest.mark.parametrize(("split", "families"), [("training", TRAINING), ("held-out", HELD_OUT)])
def test_pictures_use_all_families_of_their_split_and_no_other(
    split: Split, families: Families
) -> None:
    scenes = [scene_at(split, 3, index) for index in range(300)]
    assert {scene.pattern for scene in scenes} == set(families.patterns)
    assert {scene.background for scene in scenes} == set(families.backgrounds)
    assert {scene.pose.family for scene in scenes} == set(families.poses)


def brightness(color: Color) -> float:
    return float(color @ np.array([0.299, 0.587, 0.114]))


ASPECTS: Mapping[str, Callable[[Scene], Any]] = {
    "pattern": lambda scene: scene.pattern,
    "background": lambda scene: scene.background,
    "pose": lambda scene: scene.pose.family,
    "mirrored": lambda scene: scene.pose.flipped,
    "size in the picture": lambda scene: round(scene.pose.fill, 1),
    "garment's brightness": lambda scene: round(brightness(scene.cloth["main"]) * 4),
    "ground's brightness": lambda scene: round(brightness(scene.ground[0]) * 4),
    "lighter than the ground": lambda scene: bool(
        brightness(scene.cloth["main"]) > brightness(scene.ground[0])
    ),
    "strongest color": lambda scene: int(scene.cloth["main"].argmax()),
    "picture's width": lambda scene: scene.width // 40,
    "JPEG quality": lambda scene: scene.quality // 20,
}


@pytest.mark.parametrize("split", ["training", "held-out"])
def test_colors_background_pose_and_camera_are_independent_of_the_label(split: Split) -> None:
    scenes = [scene_at(split, 20, index) for index in range(SCENES)]
    labels = np.arange(SCENES) % 10
    for aspect, value in ASPECTS.items():
        values = [value(scene) for scene in scenes]
        counted = [key for key, count in Counter(values).items() if count >= 50]
        assert len(counted) >= 2, aspect
        is_value = np.array([[value == key for key in counted] for value in values])
        _, chances = chi2(is_value, labels)
        assert chances.min() > 0.0005, aspect


def test_a_garment_lies_inside_its_picture_in_every_pose() -> None:
    rng = np.random.default_rng(4)
    for families in (TRAINING, HELD_OUT):
        for label in LABELS * 5:
            pose = draw_pose(rng, families.poses)
            points = np.concatenate([p.points for p in cut(label, rng, pose.limbs)])
            seen = place(pose, points, 300, 400).pixels(points)
            assert seen.min() >= 0
            assert (seen.max(axis=0) <= [300, 400]).all()


def test_a_pixel_is_led_back_to_the_cloth_it_shows() -> None:
    pose = draw_pose(np.random.default_rng(1), HELD_OUT.poses)
    straight = type(pose)(**{**vars(pose), "bend": 0.0, "wobble": (0.0,) * 8})
    square = np.array([[-1.0, 0], [1, 0], [1, 2], [-1, 2]])
    placement = place(straight, square, 200, 200)
    across, down = placement.cloth(0, 0, 200, 200)
    x, y = 90, 110
    (there,) = placement.pixels(np.array([[across[y, x], down[y, x]]], float))
    assert there == pytest.approx([x, y], abs=0.01)


def test_pictures_are_jpegs_of_several_sizes_qualities_and_samplings() -> None:
    drawn = [JpegImageFile(io.BytesIO(draw("training", 9, index).jpeg)) for index in range(20)]
    assert all(image.mode == "RGB" and min(image.size) >= 299 for image in drawn)
    assert len({image.size for image in drawn}) > 10
    assert len({tuple(image.quantization[0]) for image in drawn}) > 5
    assert len({image.layer[0][1:3] for image in drawn}) == 3


def test_a_sample_picture_is_400_by_533_and_repeatable() -> None:
    for label in ("pants", "t-shirt"):
        sample = sample_picture(label, 3)
        assert Image.open(io.BytesIO(sample)).size == (400, 533)
        assert sample_picture(label, 3) == sample
        assert sample_picture(label, 4) != sample


def test_a_label_that_nobody_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        sample_picture("kimono", 1)


def test_a_contact_sheet_has_a_place_for_every_picture() -> None:
    sheet = contact_sheet([draw("held-out", 1, index) for index in range(3)], columns=2, side=50)
    assert sheet.size == (100, 100)
    assert sheet.getpixel((75, 75)) == (255, 255, 255)


def test_the_command_draws_a_sheet_with_its_answers_apart_and_a_sample_of_each_label(
    tmp_path: Path,
) -> None:
    sheet, answers, samples = (tmp_path / name for name in ("sheet.png", "answers", "samples"))
    pictures.main(
        f"--sheet {sheet} --answers {answers} --output {samples} --count 10 --seed 2".split()
    )
    with Image.open(sheet) as image:
        assert image.size == (1500, 150)
    named = [line.split()[1] for line in answers.read_text().splitlines()]
    assert sorted(named) == TEN
    assert named != TEN
    assert sorted(path.stem for path in samples.iterdir()) == TEN
    assert (samples / "hat.jpg").read_bytes() == sample_picture("hat", 2)


def test_the_command_says_what_it_can_draw(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pictures.main([])
    assert "--sheet" in capsys.readouterr().err.splitlines()[-1]


def test_a_linear_classifier_cannot_tell_the_labels_from_small_pictures() -> None:
    def sample(split: Split, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        shown = [pixels(draw(split, 31, index).jpeg, 32) for index in range(count)]
        return np.stack(shown), np.arange(count) % 10

    learned, measured = sample("training", 200), sample("held-out", 80)
    with threadpool_limits(1):
        classifier = LogisticRegression(C=0.01, max_iter=1000).fit(*learned)
    assert classifier.score(*learned) > 0.3
    assert classifier.score(*measured) < 0.6


def test_a_positive_bulge_on_a_clockwise_outline_points_outwards() -> None:
    top = path((0, 0, 0.25), (1, 0))
    assert top[:, 1].min() == pytest.approx(-0.25, abs=0.01)
    assert (path((0, 0), (1, 0))[:, 1] == 0).all()


def test_symmetric_outlines_and_mirrored_pieces_match_left_and_right() -> None:
    outline = symmetric(path((0, 0), (1, 0.2), (0, 1)))
    assert outline[:, 0].min() == -outline[:, 0].max()
    one, other = both(cut("pants", np.random.default_rng(1), 0.5)[1])
    assert sorted(one.points[:, 0]) == pytest.approx(sorted(-other.points[:, 0]))


def test_a_band_is_as_wide_as_asked() -> None:
    ribbon = band(path((0, 0), (1, 0)), 0.2)
    assert np.ptp(ribbon[:, 1]) == pytest.approx(0.2)
