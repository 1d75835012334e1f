"""`python -m model export` and `inspect`, as commands, for every kind of source."""

import importlib
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from model.__main__ import main
from model.export import ExportFailed, compare

# What Keras and tf-keras themselves do with numpy 2 and with .h5 files.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]

SIZE = 32
LABELS = ["cat", "dog", "fish"]

KERAS_3 = f"""
import keras
layers = keras.layers
model = keras.Sequential([
    layers.Input(({SIZE}, {SIZE}, 3), name="picture"),
    layers.SeparableConv2D(4, 3),
    layers.BatchNormalization(),
    layers.Dropout(0.5),
    layers.GlobalAveragePooling2D(),
    layers.Dense(3, name="scores"),
])
model.save(TARGET)
"""
KERAS_3_WITH_ITS_OWN_LAYER = f"""
import keras
class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs
picture = keras.Input(({SIZE}, {SIZE}, 3), name="picture")
pooled = keras.layers.GlobalAveragePooling2D()(Doubled()(picture))
keras.Model(picture, keras.layers.Dense(3, name="scores")(pooled)).save(TARGET)
"""
KERAS_2_XCEPTION = """
import tf_keras as keras
base = keras.applications.Xception(weights=None, include_top=False, input_shape=(299, 299, 3))
picture = keras.Input((299, 299, 3), name="input_8")
features = keras.layers.GlobalAveragePooling2D()(base(picture, training=False))
hidden = keras.layers.Dense(10, activation="relu")(features)
scores = keras.layers.Dense(10, name="dense_7")(hidden)
keras.Model(picture, scores).save(TARGET)
"""
KERAS_3_BY_TF_SAVED_MODEL = f"""
import keras, tensorflow as tf
model = keras.Sequential([
    keras.layers.Input(({SIZE}, {SIZE}, 3), name="picture"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(3, name="scores"),
])
tf.saved_model.save(model, TARGET)
"""
KERAS_3_SOFTMAX = KERAS_3.replace("Dense(3, ", 'Dense(3, activation="softmax", ')
TF1_SAVED_MODEL = """
import tensorflow as tf
v1 = tf.compat.v1
with tf.Graph().as_default(), v1.Session() as session:
    picture = v1.placeholder(tf.float32, [None, 32, 32, 3], name="contract/picture")
    weights = v1.get_variable("weights", [3, 3])
    scores = tf.matmul(tf.reduce_mean(picture, [1, 2]), weights)
    session.run(v1.global_variables_initializer())
    v1.saved_model.simple_save(session, TARGET, {"picture": picture}, {"scores": scores})
"""
TF2_SAVED_MODEL = """
import tensorflow as tf
module = tf.Module()
module.weights = tf.Variable(tf.random.normal([3, 3]))
@tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32, name="picture")])
def score(picture):
    return {"scores": tf.matmul(tf.reduce_mean(picture, [1, 2]), module.weights)}
module.score = score
tf.saved_model.save(module, TARGET, signatures={"serving_default": score})
"""


def make(script: str, target: Path) -> Path:
    exec(script, {"TARGET": str(target)})  # noqa: S102  our own scripts, above
    return target


class Finished(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module", autouse=True)
def one_keras_of_each() -> None:
    """Import TensorFlow and both Kerases once, here, rather than in a process for each case."""
    importlib.import_module("tf_keras")


def model_command(*arguments: object) -> Finished:
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
        returncode = main([str(argument) for argument in arguments])
    return Finished(returncode, stdout.getvalue(), stderr.getvalue())


def contract(tmp_path: Path, **changes: Any) -> Path:
    document = {
        "format": 1,
        "labels": LABELS,
        "preprocessing": {"height": SIZE, "width": SIZE, "scaling": "tf"},
        **changes,
    }
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(document))
    return path


def export(source: Path, contract_file: Path, output: Path, *more: object) -> Any:
    return model_command(
        "export", source, "--contract", contract_file, "--name", "m", "--output", output, *more
    )


def call(directory: Path, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """What a graph Session answers, by TensorFlow's own loader."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        graph = v1.saved_model.load(session, ["serve"], str(directory))
        definition = graph.signature_def[signature]
        feeds = {definition.inputs[key].name: value for key, value in inputs.items()}
        fetches = {key: info.name for key, info in definition.outputs.items()}
        return dict(session.run(fetches, feeds))


@pytest.fixture(scope="module")
def keras_3_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(KERAS_3, tmp_path_factory.mktemp("keras_3") / "model.keras")


@pytest.fixture(scope="module")
def exported(keras_3_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    finished = export(keras_3_file, contract(folder), folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "m" / "1"


@pytest.mark.parametrize(
    ("script", "name"),
    [
        pytest.param(KERAS_3, "model.h5", id="keras 3 h5"),
        pytest.param(TF1_SAVED_MODEL, "tf1", id="tf1 saved model"),
        pytest.param(TF2_SAVED_MODEL, "tf2", id="tf2 saved model"),
    ],
)
def test_every_kind_of_source_becomes_a_version_directory(
    script: str, name: str, tmp_path: Path
) -> None:
    finished = export(make(script, tmp_path / name), contract(tmp_path), tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    pictures = {"picture": np.zeros((2, SIZE, SIZE, 3), np.float32)}
    outputs = call(tmp_path / "out" / "m" / "1", "serving_default", pictures)
    assert np.shape(outputs["scores"]) == (2, 3)


def test_an_xception_that_keras_2_wrote_keeps_its_names_and_its_answers(tmp_path: Path) -> None:
    source = make(KERAS_2_XCEPTION, tmp_path / "xception.h5")
    labels = [f"label {n}" for n in range(10)]
    size = {"height": 299, "width": 299, "scaling": "tf"}
    document = contract(tmp_path, labels=labels, preprocessing=size)
    finished = export(source, document, tmp_path)
    assert finished.returncode == 0, finished.stderr
    shown = model_command("inspect", tmp_path / "m" / "1").stdout
    assert "input_8  DT_FLOAT  [-1, 299, 299, 3]" in shown
    assert "dense_7  DT_FLOAT  [-1, 10]" in shown


def test_the_contract_travels_in_a_signature_once_for_each_element(exported: Path) -> None:
    requests = {"request": np.array([b"", b"x", b"yz"], object)}
    texts = call(exported, "contract", requests)["contract"]
    assert len(texts) == 3
    assert [json.loads(text)["labels"] for text in texts] == [LABELS] * 3
    assert (exported / "assets.extra" / "contract.json").read_bytes() == texts[0]


def test_warm_up_holds_one_request_for_each_signature(exported: Path) -> None:
    path = exported / "assets.extra" / "tf_serving_warmup_requests"
    records = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    specs = [record.predict_log.request.model_spec for record in records]
    assert {spec.signature_name for spec in specs} == {"serving_default", "contract"}
    assert {spec.name for spec in specs} == {"m"}
    picture = tf.make_ndarray(records[0].predict_log.request.inputs["picture"])
    assert picture.shape == (1, SIZE, SIZE, 3)


def test_inspect_check_accepts_an_export(exported: Path) -> None:
    finished = model_command("inspect", "--check", exported)
    assert finished.returncode == 0
    assert finished.stdout.endswith("the contract fits\n")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"labels": ["cat", "dog"]},
            "the contract has 2 labels, and the output 'scores' has the shape [-1, 3]: write 3",
        ),
        ({"preprocessing": {"height": 32, "width": 31, "scaling": "tf"}}, "[-1, 32, 31, 3]"),
        ({"input": "input_8"}, "'input_8'"),
        ({"output": "dense_7"}, "'dense_7'"),
        ({"signature": "predict"}, "'serving_default'"),
        ({"labels": ["cat", "cat", "dog"]}, "non-unique"),
        ({"color": "rgb"}, "the contract has no field 'color'; it has format, signature"),
    ],
)
def test_an_unfit_contract_is_refused_and_nothing_is_left(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    source = make(TF2_SAVED_MODEL, tmp_path / "source")
    finished = export(source, contract(tmp_path, **changes), tmp_path / "out")
    assert finished.returncode == 1
    assert sentence in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("model.keras", b"not a zip", "cannot be read by keras"),
        ("model.h5", b"not hdf5", "is not an HDF5 file"),
        ("model.onnx", b"", "neither a .keras nor an .h5 file"),
        ("gone.keras", None, "does not exist"),
    ],
)
def test_a_source_that_is_no_model_is_refused_in_one_sentence(
    name: str, content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    finished = export(tmp_path / name, contract(tmp_path), tmp_path / "out")
    assert finished.returncode == 1
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "out").exists()


def test_a_contract_that_is_not_there_is_said_with_its_name(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    finished = export(make(TF2_SAVED_MODEL, tmp_path / "source"), missing, tmp_path / "out")
    assert finished.stderr == (
        f"model export: the contract {missing} cannot be read: No such file or directory\n"
    )


def test_a_failure_takes_back_only_the_directories_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    finished = export(tmp_path / "gone.keras", contract(tmp_path), tmp_path / "out")
    assert finished.returncode == 1
    assert not list((tmp_path / "out").iterdir())


def test_a_model_with_a_layer_of_its_own_is_refused_in_a_few_words(tmp_path: Path) -> None:
    source = make(KERAS_3_WITH_ITS_OWN_LAYER, tmp_path / "model.keras")
    finished = export(source, contract(tmp_path), tmp_path / "out")
    assert finished.returncode == 1
    assert "Could not locate class 'Doubled'. Save a model with classes" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def test_the_command_ends_with_1_and_one_sentence_where_it_cannot_export(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model", "inspect", str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 1
    assert finished.stderr == f"model inspect: there is no saved_model.pb in {tmp_path}\n"


def test_a_keras_3_model_saved_the_wrong_way_is_refused_with_what_to_do(tmp_path: Path) -> None:
    source = make(KERAS_3_BY_TF_SAVED_MODEL, tmp_path / "saved")
    finished = export(source, contract(tmp_path, output="output_0"), tmp_path / "out")
    assert finished.returncode == 1
    assert "Could not find variable" in finished.stderr
    assert "save it with model.save('model.keras')" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize(("scores", "noted"), [("logits", True), ("probabilities", False)])
def test_softmax_under_a_contract_for_logits_is_noted(
    scores: str, noted: bool, tmp_path: Path
) -> None:
    source = make(KERAS_3_SOFTMAX, tmp_path / "model.keras")
    finished = export(source, contract(tmp_path, scores=scores), tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    assert ("note: the scores look like probabilities" in finished.stdout) is noted


def test_a_version_number_is_never_used_twice(exported: Path, tmp_path: Path) -> None:
    again = export(exported, contract(tmp_path), exported.parent.parent, "--version", 1)
    assert again.returncode == 1
    assert "never used twice" in again.stderr


def test_inspect_check_refuses_a_model_without_a_contract(tmp_path: Path) -> None:
    finished = model_command("inspect", "--check", make(TF2_SAVED_MODEL, tmp_path / "source"))
    assert finished.returncode == 1
    assert "has no signature `contract`" in finished.stderr


def test_inspect_check_refuses_a_contract_file_that_differs(exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "1"
    shutil.copytree(exported, copy)
    (copy / "assets.extra" / "contract.json").write_text("{}")
    finished = model_command("inspect", "--check", copy)
    assert finished.returncode == 1
    assert "is not the contract that the model carries" in finished.stderr


def test_an_export_that_answers_otherwise_is_refused() -> None:
    wanted = np.array([[18.0, -1.0]])
    compare(wanted + 17e-5, wanted)
    with pytest.raises(ExportFailed, match=r"differ from the model's by 0\.00019"):
        compare(wanted + 19e-5, wanted)
