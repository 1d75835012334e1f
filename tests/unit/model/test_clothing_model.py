"""The committed network, its metadata and its contract."""

import hashlib
import importlib.metadata
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from model.clothing import train
from model.clothing.dataset import Pictures, decoded, drawn, scaled
from model.clothing.pictures import draw
from model.quiet import import_tensorflow

import_tensorflow()

import keras  # noqa: E402

from model.clothing.batches import Batches  # noqa: E402
from model.clothing.network import build  # noqa: E402

ROOT = Path(__file__).parents[3]
CLOTHING = ROOT / "model" / "clothing"
TEN = [
    *("dress", "hat", "longsleeve", "outwear", "pants"),
    *("shirt", "shoes", "shorts", "skirt", "t-shirt"),
]


@pytest.fixture(scope="module")
def metadata() -> Any:
    return json.loads((CLOTHING / "clothing.json").read_text())


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return keras.saving.load_model(CLOTHING / "clothing.keras")


def test_the_metadata_describes_these_very_weights(
    metadata: dict[str, Any], model: keras.Model
) -> None:
    weights = (CLOTHING / "clothing.keras").read_bytes()
    assert metadata["sha256"] == hashlib.sha256(weights).hexdigest()
    assert len(weights) < 5_000_000
    assert metadata["parameters"] == model.count_params() < 300_000


def test_the_metadata_says_how_the_figures_came_about(metadata: dict[str, Any]) -> None:
    assert isinstance(metadata["seed"], int)
    assert metadata["pictures"]["held_out"] >= 500
    assert metadata["pictures"]["training"] >= 1000
    # 15 minutes of two processors, whatever else the machine did at the time.
    assert 0 < metadata["seconds"]["processors"] < 15 * 60 * 2
    assert set(metadata["versions"]) == {"python", "tensorflow", "keras", "numpy", "pillow"}
    installed = importlib.metadata.version("keras").split(".")[0]
    assert metadata["versions"]["keras"].split(".")[0] == installed


def test_95_of_100_held_out_pictures_are_named_rightly_in_the_full_measurement(
    metadata: dict[str, Any],
) -> None:
    assert metadata["held_out_accuracy"] >= 0.95
    by_label = metadata["held_out_accuracy_by_label"]
    assert list(by_label) == TEN
    # Labels take turns, so the whole is the mean of the parts.
    assert np.mean(list(by_label.values())) == pytest.approx(
        metadata["held_out_accuracy"], abs=0.002
    )


def test_the_committed_weights_do_on_fresh_held_out_pictures_as_the_metadata_says(
    model: keras.Model, metadata: dict[str, Any]
) -> None:
    seed, count = metadata["seed"] + 1, 120
    pixels = np.stack([decoded(draw("held-out", seed, index).jpeg) for index in range(count)])
    right = train.predictions(model, pixels) == np.arange(count) % 10
    # 0.95 less three standard deviations of a share measured on 120 pictures.
    assert right.mean() > 0.89


def test_the_model_takes_pictures_of_299_by_299_and_answers_ten_logits(model: keras.Model) -> None:
    assert model.input_shape == (None, 299, 299, 3)
    assert model.output_shape == (None, 10)
    assert model.input.dtype == "float32"
    logits = np.asarray(model(np.zeros((2, 299, 299, 3), np.float32)))
    assert logits.dtype == np.float32
    assert not np.allclose(logits.sum(axis=1), 1)


def test_the_contract_has_the_schemas_form_and_names_the_ten_labels() -> None:
    contract = json.loads((CLOTHING / "contract.json").read_text())
    schema = json.loads((ROOT / "model" / "contract.schema.json").read_text())
    jsonschema.validate(contract, schema)
    assert contract["labels"] == TEN
    assert contract["scores"] == "logits"
    preprocessing = contract["preprocessing"]
    assert (preprocessing["height"], preprocessing["width"]) == (299, 299)
    assert (preprocessing["resampling"], preprocessing["scaling"]) == ("nearest", "tf")


def test_training_sees_pictures_exactly_as_keras_loads_them() -> None:
    jpeg = draw("training", 2, 5).jpeg
    image = keras.utils.load_img(
        io.BytesIO(jpeg), target_size=(299, 299), interpolation="nearest", color_mode="rgb"
    )
    pixels = keras.utils.img_to_array(image)
    assert np.array_equal(decoded(jpeg), pixels)
    expected = keras.applications.xception.preprocess_input(pixels.copy())
    assert scaled(decoded(jpeg)).tobytes() == expected.tobytes()


def test_every_byte_value_is_scaled_as_keras_does() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    expected = keras.applications.xception.preprocess_input(values.astype(np.float32))
    assert np.array_equal(scaled(values), expected)


def test_a_batch_keeps_each_pictures_label_and_passes_over_every_picture_once() -> None:
    pixels = np.zeros((10, 299, 299, 3), np.uint8)
    pixels[:, :, :] = np.array([100, 110, 120])
    pixels[np.arange(10), 0, 0] = 0
    batches = Batches(Pictures(pixels, np.arange(10)), size=5, seed=1)
    assert len(batches) == 2
    tensors, answers = zip(*(batches[number] for number in range(2)), strict=True)
    assert sorted(np.concatenate(answers)) == list(range(10))
    assert all(
        tensor.shape == (5, 299, 299, 3) and tensor.dtype == np.float32 for tensor in tensors
    )
    assert np.abs(tensors).max() <= 1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_an_untrained_network_is_small_and_differs_by_seed_only() -> None:
    keras.utils.set_random_seed(1)
    first = build(10)
    keras.utils.set_random_seed(1)
    second = build(10)
    assert first.count_params() < 300_000
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_pictures_drawn_by_several_processes_are_those_drawn_by_one() -> None:
    counted: list[int] = []
    pictures = drawn("training", 8, 20, processes=2, progress=counted.append)
    assert counted == list(range(1, 21))
    assert list(pictures.answers) == list(range(10)) * 2
    assert np.array_equal(pictures.pixels[17], decoded(draw("training", 8, 17).jpeg))


# Keras 3.15 reads its variables in a way that NumPy 2.4 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_command_trains_and_writes_a_model_with_its_metadata(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(
        f"--output {tmp_path} --training 20 --held-out 10 --epochs 1 --batch 10 --processes 2"
        " --seed 4".split()
    )
    metadata = json.loads((tmp_path / "clothing.json").read_text())
    assert metadata["seed"] == 4
    assert metadata["pictures"] == {"training": 20, "held_out": 10}
    weights = (tmp_path / "clothing.keras").read_bytes()
    assert metadata["sha256"] == hashlib.sha256(weights).hexdigest()
    model = keras.saving.load_model(tmp_path / "clothing.keras")
    assert model.output_shape == (None, 10)
    printed = capsys.readouterr().out
    assert "training: 20 of 20 pictures drawn" in printed
    assert "epoch 1 of 1: loss " in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_is_stopped_leaves_no_process(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model.clothing.train", "--output", str(tmp_path / "made")]
    with subprocess.Popen(
        [*command, "--held-out", "8000", "--training", "50"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training: 50 of 50 pictures drawn\n"
        process.send_signal(number)
        # Every process that still lived would hold the other end of the pipe.
        rest, _ = process.communicate(timeout=60)
    assert "Traceback" not in rest
    assert process.returncode == -number
    assert not (tmp_path / "made").exists()


def test_the_processes_that_draw_do_not_load_tensorflow() -> None:
    program = "import sys, model.clothing.train; print('tensorflow' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
