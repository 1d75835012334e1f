"""Generated pictures of every kind of file, against Keras bit for bit: 60, or 500 with --exact."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.deadline import Deadline
from gateway.scoring.contract_document import Preprocessing, Resampling, Scaling
from gateway.scoring.images import ImageLimits, decode, to_tensor
from tests.support.keras_pictures import keras_tensor
from tests.support.pictures import KINDS, Size

FIXED, ALL = 60, 500
LIMITS = ImageLimits(max_bytes=200_000_000, max_pixels=25_000_000)
EDGES: tuple[Size, ...] = ((1, 1), (1, 3000), (3000, 1), (3000, 3000), (2, 3))
FILTERS: tuple[Resampling, ...] = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
SCALINGS: tuple[Scaling, ...] = ("tf", "caffe", "torch", "none")


@dataclass(frozen=True)
class Case:
    """One generated picture and how it is prepared."""

    number: int
    kind: str
    size: Size
    wanted: Preprocessing

    def __str__(self) -> str:
        width, height = self.size
        wanted = self.wanted
        return (
            f"{self.number}: {self.kind} {width}x{height} to {wanted.width}x{wanted.height} "
            f"{wanted.resampling} {wanted.scaling} {wanted.color_mode}"
        )

    def file(self) -> bytes:
        return KINDS[self.kind](np.random.default_rng(self.number), self.size)


def case(number: int) -> Case:
    """Kinds in turn, all else drawn by the number; small sides come as often as large ones."""
    random = np.random.default_rng((1, number))
    exponents = random.uniform(0, 1, 2) if random.random() < 0.5 else np.ones(2)
    width, height = (int(random.integers(1, 3000**exponent + 1)) for exponent in exponents)
    target_width, target_height = (int(side) for side in random.integers(32, 513, 2))
    size = EDGES[number] if number < len(EDGES) else (width, height)
    if number % 12 == 11:
        size = (target_width, target_height)
    grayscale = bool(random.random() < 0.2)
    scalings = ("tf", "none") if grayscale else SCALINGS
    scaling = scalings[random.integers(len(scalings))]
    wanted = Preprocessing(
        height=target_height,
        width=target_width,
        scaling=scaling,
        resampling=FILTERS[random.integers(len(FILTERS))],
        color_mode="grayscale" if grayscale else "rgb",
        color_order="bgr" if scaling == "caffe" else "rgb",
    )
    return Case(number, list(KINDS)[number % len(KINDS)], size, wanted)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "prepared" in metafunc.fixturenames:
        count = ALL if metafunc.config.getoption("--exact") else FIXED
        metafunc.parametrize("prepared", [case(number) for number in range(count)], ids=str)


def test_a_picture_becomes_the_tensor_that_keras_makes_of_it(prepared: Case) -> None:
    file = prepared.file()

    pixels = decode(file, prepared.wanted, LIMITS, Deadline.after(60))
    tensor = to_tensor([pixels], prepared.wanted, np.dtype(np.float32))

    np.testing.assert_array_equal(tensor[0], keras_tensor(file, prepared.wanted), strict=True)


def test_the_fixed_cases_reach_every_kind_filter_and_scaling() -> None:
    cases = [case(number) for number in range(FIXED)]

    assert {each.kind for each in cases} == set(KINDS)
    assert {each.wanted.resampling for each in cases} == set(FILTERS)
    assert {each.wanted.scaling for each in cases} == set(SCALINGS)
    assert {each.wanted.color_mode for each in cases} == {"rgb", "grayscale"}
    assert any(each.size == (each.wanted.width, each.wanted.height) for each in cases)
    assert any(math.prod(each.size) == 1 for each in cases)
