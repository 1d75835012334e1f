"""From a trained model to a version directory that TensorFlow Serving loads.

`.keras` and Keras 3 `.h5` files go through `keras.export.ExportArchive`: what
`tf.saved_model.save` makes of a Keras 3 model loads, and then fails on every call in a
graph Session ("Could not find variable"). `.h5` files that Keras 2 wrote go through tf-keras,
because Keras 3 cannot read all of them. A SavedModel is copied. Each gets the signature `contract`,
`assets.extra/contract.json` and warm-up requests, is loaded again in a fresh process in a
Session, and is compared there with the model it came from.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from tensorflow.core.framework import types_pb2
from tensorflow.errors import OpError

from model import saved_model
from model.contract import (
    Document,
    Signature,
    Tensor,
    UnfitContract,
    check_fit,
    check_scores,
    contract_text,
    input_of,
    output_of,
    read_contract,
)

TOLERANCE = 1e-5
"""Largest difference between model and export, as a part of the largest output, in one batch."""
PROBE_BATCH = 2
LONGEST_REASON = 500
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
DEFAULT_SIGNATURE = "serving_default"

Array = npt.NDArray[np.generic]
Serve = Callable[[Any], dict[str, Any]]
"""From a batch of pictures to the outputs by name."""


class ExportFailed(Exception):
    """The model cannot be exported; the message says why and what to do."""


@dataclass(frozen=True)
class Request:
    """What to export: a model file or SavedModel directory, its contract, its name and place."""

    source: Path
    contract: Path
    name: str
    output: Path
    version: int | None = None


def export_model(request: Request, say: Callable[[str], None] = print) -> Path:
    """Export one version and return its directory, `OUTPUT/NAME/VERSION`.

    The directory appears under its number only once it is whole and checked, so a server
    that polls `OUTPUT/NAME` never sees half a version.

    Raises:
        ExportFailed: the source cannot be read, or the export differs from the model.
        UnfitContract: the contract does not fit the model.
    """
    document = read_contract(_read_text(request.contract))
    home = request.output / request.name
    target = home / str(request.version or next_version(home))
    if target.exists():
        raise ExportFailed(f"{target} exists: a version number is never used twice, take another")
    with _made(home), tempfile.TemporaryDirectory(dir=home, prefix=".export-") as scratch:
        made = Path(scratch) / target.name
        say(f"reading {request.source}")
        expected = _convert(request.source, made, document)
        saved_model.add_contract(made, contract_text(document))
        write_warmup(made, document, request.name)
        if looks_like_probabilities(expected[1]) and document.get("scores") != "probabilities":
            say(
                "note: the scores look like probabilities: if the last layer is softmax, add"
                ' "scores": "probabilities" to the contract, or softmax is taken twice'
            )
        say("checking the export in a fresh process")
        _check_export(made, document, expected)
        made.rename(target)
    say(f"exported {target}")
    return target


@contextlib.contextmanager
def _made(home: Path) -> Iterator[None]:
    """Have the directory; where the block fails, take back what of its path was not there."""
    missing = [path for path in (home, *home.parents) if not path.exists()]
    home.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):  # somebody else has put something there
                path.rmdir()
        raise


def next_version(home: Path) -> int:
    """One above the highest version below the directory; 1 where there is none."""
    if not home.is_dir():
        return 1
    return 1 + max((int(path.name) for path in home.iterdir() if path.name.isdigit()), default=0)


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ExportFailed(f"the contract {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ExportFailed(f"the contract {path} is not UTF-8 text") from error


def _convert(source: Path, made: Path, document: Document) -> tuple[Array, Array]:
    """Write the SavedModel without its contract; the probe batch and the model's answer to it."""
    if source.is_dir():
        return _convert_saved_model(source, made, document)
    if source.suffix not in (".keras", ".h5", ".hdf5"):
        raise ExportFailed(
            f"{source} is neither a .keras nor an .h5 file nor a SavedModel directory"
        )
    if not source.is_file():
        raise ExportFailed(f"{source} does not exist")
    if source.suffix != ".keras" and _keras_version(source) < 3:
        return _convert_keras_2(source, made, document)
    return _convert_keras_3(source, made, document)


def _keras_version(source: Path) -> int:
    """The major version of the Keras that wrote an .h5 file; 2 where the file does not say."""
    try:
        with h5py.File(source) as file:
            if "model_config" not in file.attrs:
                raise ExportFailed(
                    f"{source} holds weights without a model: save the whole model with"
                    " model.save(...)"
                )
            return int(str(file.attrs.get("keras_version", "2")).partition(".")[0])
    except OSError as error:
        raise ExportFailed(f"{source} is not an HDF5 file: {error}") from error


def _convert_keras_3(source: Path, made: Path, document: Document) -> tuple[Array, Array]:
    import keras  # noqa: PLC0415  one process loads one Keras

    model = _load(keras, source)
    if isinstance(model, keras.Sequential):  # whose outputs have no names
        model = keras.Model(model.inputs, model.outputs)

    def write(key: str, serve: Serve, specification: Any) -> None:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(key, serve, [specification])
        archive.write_out(str(made), verbose=False)

    return _convert_keras(model, [tensor.name for tensor in model.inputs], document, write)


def _convert_keras_2(source: Path, made: Path, document: Document) -> tuple[Array, Array]:
    import tensorflow as tf  # noqa: PLC0415
    import tf_keras  # noqa: PLC0415  one process loads one Keras

    model = _load(tf_keras, source)

    def write(key: str, serve: Serve, specification: Any) -> None:
        function = tf.function(serve, input_signature=[specification])
        tf.saved_model.save(model, str(made), signatures={key: function})

    return _convert_keras(model, model.input_names, document, write)


def _convert_keras(
    model: Any, input_names: list[str], document: Document, write: Callable[[str, Serve, Any], None]
) -> tuple[Array, Array]:
    """Check the contract against the model, write it, and ask the model for its probe answer."""
    import tensorflow as tf  # noqa: PLC0415

    outputs = list(model.output_names)
    signature = Signature(
        document.get("signature", DEFAULT_SIGNATURE),
        tuple(_tensor(*pair) for pair in zip(input_names, model.inputs, strict=True)),
        tuple(_tensor(*pair) for pair in zip(outputs, model.outputs, strict=True)),
    )
    check_fit(document, signature)
    picture = model.inputs[0]
    specification = tf.TensorSpec(picture.shape, picture.dtype, name=input_names[0])

    def serve(pictures: Any) -> dict[str, Any]:
        return dict(zip(outputs, tf.nest.flatten(model(pictures, training=False)), strict=True))

    write(signature.name, serve, specification)
    probe = probe_batch(signature, document)
    index = outputs.index(output_of(document, signature).name)
    return probe, np.asarray(tf.nest.flatten(model.predict_on_batch(probe))[index])


def _tensor(name: str, symbolic: Any) -> Tensor:
    """A Keras model's input or output as its signature will say it."""
    import tensorflow as tf  # noqa: PLC0415

    dtype = types_pb2.DataType.Name(tf.dtypes.as_dtype(symbolic.dtype).as_datatype_enum)
    return Tensor(name, dtype, tuple(-1 if size is None else int(size) for size in symbolic.shape))


def _convert_saved_model(source: Path, made: Path, document: Document) -> tuple[Array, Array]:
    try:
        signature = scoring_signature(document, saved_model.signatures(saved_model.read(source)))
    except saved_model.NotASavedModel as error:
        raise ExportFailed(str(error)) from error
    check_fit(document, signature)
    shutil.copytree(source, made, ignore=shutil.ignore_patterns("assets.extra"))
    probe = probe_batch(signature, document)
    calls = {signature.name: {input_of(document, signature).name: probe}}
    try:
        answers = saved_model.run(source, calls)
    except OpError as error:
        raise ExportFailed(
            f"{source} cannot be run in a graph Session, as TensorFlow Serving runs models"
            f" ({_reason(error)}). tf.saved_model.save makes such files of Keras 3"
            " models: save it with model.save('model.keras') and export that"
        ) from error
    return probe, answers[signature.name][output_of(document, signature).name]


def _reason(error: OpError) -> str:
    """The sentence of TensorFlow's message that names the cause; its first where none does."""
    lines: list[str] = error.message.splitlines()
    named = [line for line in lines if line.startswith("Could not find variable")]
    return (named or lines or ["no message"])[0].partition(". ")[0]


def scoring_signature(document: Document, signatures: dict[str, Signature]) -> Signature:
    """The signature that the contract scores with.

    Raises:
        UnfitContract: the model has no such signature.
    """
    wanted = document.get("signature", DEFAULT_SIGNATURE)
    if wanted not in signatures:
        known = ", ".join(repr(name) for name in signatures) or "none"
        raise UnfitContract(
            f"the contract names the signature {wanted!r}, and the model has {known}"
        )
    return signatures[wanted]


def _load(keras_module: Any, source: Path) -> Any:
    """The model of a file, read by the Keras given."""
    try:
        return keras_module.models.load_model(source, compile=False)
    except Exception as error:
        raise ExportFailed(
            f"{source} cannot be read by {keras_module.__name__}: {_first_words(error)}"
        ) from error


def _first_words(error: Exception) -> str:
    """The first paragraph about the cause; around it Keras puts a whole model's configuration."""
    text = str(error).rpartition("Exception encountered: ")[2]
    first = " ".join(text.strip().partition("\n\n")[0].split())
    if first.startswith("Could not locate class"):
        return (
            f"{first.partition('. ')[0]}. Save a model with classes of its own as a SavedModel,"
            " with model.export(DIRECTORY), and export that"
        )
    return first if len(first) <= LONGEST_REASON else f"{first[:LONGEST_REASON]} [...]"


def probe_batch(signature: Signature, document: Document) -> Array:
    """Two made-up pictures in the range that the contract's scaling gives."""
    low, high = {
        "tf": (-1.0, 1.0),
        "caffe": (-123.68, 151.061),
        "torch": (-2.12, 2.64),
        "none": (0.0, 255.0),
    }[document["preprocessing"]["scaling"]]
    preprocessing = document["preprocessing"]
    channels = 1 if preprocessing.get("color_mode") == "grayscale" else 3
    shape = (PROBE_BATCH, preprocessing["height"], preprocessing["width"], channels)
    dtypes = {"DT_FLOAT": np.float32, "DT_HALF": np.float16, "DT_UINT8": np.uint8}
    generator = np.random.default_rng(0)
    dtype = dtypes[input_of(document, signature).dtype]
    return generator.uniform(low, high, shape).astype(dtype)


def write_warmup(directory: Path, document: Document, name: str) -> None:
    """Write one warm-up request for each of the two signatures.

    A TFRecord file of PredictionLog messages, as TensorFlow Serving's
    `saved_model_warmup` reads it.
    """
    import tensorflow as tf  # noqa: PLC0415
    from tensorflow_serving.apis import prediction_log_pb2  # noqa: PLC0415

    signatures = saved_model.signatures(saved_model.read(directory))
    scoring = scoring_signature(document, signatures)
    picture = np.zeros_like(probe_batch(scoring, document)[:1])
    calls = {
        scoring.name: (input_of(document, scoring).name, picture),
        saved_model.CONTRACT_SIGNATURE: (saved_model.CONTRACT_INPUT, np.array([b""])),
    }
    with tf.io.TFRecordWriter(str(directory / WARMUP_FILE)) as writer:
        for signature, (key, array) in calls.items():
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.model_spec.name = name
            log.predict_log.request.model_spec.signature_name = signature
            log.predict_log.request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
            writer.write(log.SerializeToString())


def _check_export(made: Path, document: Document, expected: tuple[Array, Array]) -> None:
    """Run both signatures in a fresh process and compare with the model's own answer."""
    probe, wanted = expected
    scoring = scoring_signature(document, saved_model.signatures(saved_model.read(made)))
    output = output_of(document, scoring).name
    with tempfile.TemporaryDirectory() as scratch:
        probe_file, answer_file = Path(scratch) / "probe.npy", Path(scratch) / "answer.npz"
        np.save(probe_file, probe)
        arguments = [str(made), scoring.name, input_of(document, scoring).name, output]
        command = [sys.executable, "-m", "model.session_check", *arguments]
        finished = subprocess.run(
            [*command, str(probe_file), str(answer_file)],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            last = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            raise ExportFailed(
                f"the export does not run as TensorFlow Serving would run it: {last}"
            )
        with np.load(answer_file) as answers:
            got, texts = answers["scores"], answers["texts"].tolist()
    if texts != [contract_text(document).encode()] * PROBE_BATCH:
        raise ExportFailed("the export's signature `contract` does not give the contract back")
    check_scores(document, output, tuple(got.shape))
    compare(got, wanted)


def looks_like_probabilities(scores: Array) -> bool:
    """Whether each picture's scores are from 0 to 1 and sum to 1."""
    values = scores.astype(np.float64)
    return bool(np.all(values >= 0) and np.allclose(values.sum(axis=-1), 1.0, atol=1e-3))


def compare(got: Array, wanted: Array) -> None:
    """Compare an export's answer with its model's.

    Raises:
        ExportFailed: they differ by more than `TOLERANCE` of the largest output.
    """
    difference = float(np.max(np.abs(got.astype(np.float64) - wanted.astype(np.float64))))
    largest = float(np.max(np.abs(wanted)))
    if not difference <= TOLERANCE * largest:
        raise ExportFailed(
            f"the export's scores differ from the model's by {difference:g}, with {largest:g} as"
            f" the largest score: more than {TOLERANCE:g} of it"
        )
