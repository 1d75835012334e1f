"""Small SavedModels, written the TensorFlow 1 way, for tests of the model server.

TensorFlow takes seconds to import, so this module is imported by tests that need it anyway.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

v1 = tf.compat.v1
LABELS = ("cold", "warm")
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"


def write_half_plus(
    path: Path | str,
    offset: float = 2.0,
    *,
    tags: Iterable[str] = ("serve",),
    warm_up: Iterable[prediction_log_pb2.PredictionLog] = (),
) -> Path:
    """A model whose default signature answers `x / 2 + offset`, with many more signatures.

    - `serving_default`: x → y, any shape. `renamed`: y → y. `pair`: x, z → y, z by default 10.
    - `matrix`: x of shape [-1, 2] through a product with 2 by 2 ones, which refuses other shapes.
    - `classify` and `classify_scores`, `regress`: tf.Examples with one float feature `x`.
    - `text`: the label, out of a file among the assets, of an int64.
    - `wait`: x → y, but a run waits until one of `release` was made.
    - `until`: x → y, but a run goes on until the file named by `file` exists.
    - `scalar` and `first`: outputs that cannot be taken apart into rows.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    vocabulary = path.parent / "labels.txt"
    vocabulary.write_text("\n".join(LABELS), encoding="utf-8")
    with tf.Graph().as_default(), v1.Session() as session:
        signatures, main_op = _signatures(offset, str(vocabulary))
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            list(tags),
            signature_def_map=signatures,
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=main_op,
        )
        builder.save()
    vocabulary.unlink()
    write_warm_up(path, [record.SerializeToString() for record in warm_up])
    return path


def _signatures(offset: float, vocabulary: str) -> tuple[dict[str, Any], Any]:
    shift = v1.get_variable("shift", initializer=offset, use_resource=True)
    x = v1.placeholder(tf.float32, name="serving_default_x")
    y = tf.identity(x * 0.5 + shift, name="y")
    z = v1.placeholder(tf.float32, name="pair_z")
    two = v1.placeholder(tf.float32, [None, 2], name="two")
    examples, feature = _feature()
    half = tf.identity(feature * 0.5 + shift, name="half")
    table, number = _table(vocabulary)
    waited, released, release_x = _gate(x)
    file, y_until = _until_file(x)
    classes = tf.tile(tf.constant([LABELS]), [tf.shape(feature)[0], 1])
    scores = tf.concat([1 - feature, feature], axis=1)
    signatures = {
        "serving_default": signature({"x": x}, {"y": y}, PREDICT),
        "renamed": signature({"y": x}, {"y": y}, PREDICT),
        "pair": signature({"x": x, "z": z}, {"y": x + z}, PREDICT),
        "both": signature({"x": x}, {"y": y, "again": y + 0}, PREDICT),
        "matrix": signature(
            {"x": two}, {"y": tf.matmul(two, tf.ones([2, 2]), name="product")}, PREDICT
        ),
        "classify": signature(
            {"inputs": examples}, {"classes": classes, "scores": scores}, CLASSIFY
        ),
        "classify_scores": signature({"inputs": examples}, {"scores": scores}, CLASSIFY),
        "regress": signature({"inputs": examples}, {"outputs": half}, REGRESS),
        "text": signature({"number": number}, {"text": table.lookup(number)}, PREDICT),
        "wait": signature({"x": x}, {"y": waited}, PREDICT),
        "release": signature({"x": release_x}, {"y": released}, PREDICT),
        "until": signature({"x": x, "file": file}, {"y": y_until}, PREDICT),
        "scalar": signature({"x": x}, {"y": tf.reduce_sum(x)}, PREDICT),
        "first": signature({"x": x}, {"y": x[:1]}, PREDICT),
    }
    signatures["pair"].defaults["z"].CopyFrom(tf.make_tensor_proto(10.0))
    return signatures, v1.tables_initializer()


def _feature() -> tuple[Any, Any]:
    examples = v1.placeholder(tf.string, [None], name="examples")
    spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}
    return examples, tf.io.parse_example(examples, spec)["x"]


def _table(vocabulary: str) -> tuple[Any, Any]:
    number = v1.placeholder(tf.int64, [None], name="number")
    initializer = tf.lookup.TextFileInitializer(
        vocabulary,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
    )
    return tf.lookup.StaticHashTable(initializer, "none"), number


def _gate(x: Any) -> tuple[Any, Any, Any]:
    queue = v1.FIFOQueue(100, [tf.float32], shapes=[[]])
    waited = tf.identity(x + 0 * queue.dequeue(), name="waited")
    release_x = v1.placeholder(tf.float32, [None], name="release_x")
    with tf.control_dependencies([queue.enqueue_many([release_x])]):
        released = tf.identity(release_x, name="released")
    return waited, released, release_x


def _until_file(x: Any) -> tuple[Any, Any]:
    file = v1.placeholder(tf.string, [], name="file")

    def is_missing(turn: Any) -> Any:
        # The name depends on the turn, so that no optimizer looks only once.
        name = tf.strings.regex_replace(tf.strings.join([file, "#", tf.as_string(turn)]), "#.*", "")
        return tf.equal(tf.size(tf.io.matching_files(name)), 0)

    turns = tf.while_loop(is_missing, lambda turn: turn + 1, [tf.constant(0, tf.int64)])
    turns = turns[0] if isinstance(turns, list | tuple) else turns
    with tf.control_dependencies([turns]):
        return file, tf.identity(x, name="until")


def signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any], method: str) -> Any:
    """A SignatureDef of tensors."""
    infos = [
        {alias: v1.saved_model.build_tensor_info(tensor) for alias, tensor in tensors.items()}
        for tensors in (inputs, outputs)
    ]
    return v1.saved_model.build_signature_def(infos[0], infos[1], method)


def write_broken(path: Path) -> Path:
    """A version directory whose SavedModel cannot be parsed."""
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"\xff not a SavedModel")
    return path


def write_warm_up(path: Path, records: Iterable[bytes]) -> None:
    """The warm-up file of a version, unless there are no records."""
    records = list(records)
    if records:
        file = path / "assets.extra" / "tf_serving_warmup_requests"
        file.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(file)) as writer:
            for record in records:
                writer.write(record)


def predict_request(
    model: str, x: Any, *, signature_name: str = "", alias: str = "x"
) -> predict_pb2.PredictRequest:
    """A PredictRequest of one float input."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature_name
    request.inputs[alias].CopyFrom(tf.make_tensor_proto(np.asarray(x, np.float32)))
    return request


def until_request(model: str, x: Any, file: Path) -> predict_pb2.PredictRequest:
    """A request that is answered once the file exists."""
    request = predict_request(model, x, signature_name="until")
    request.inputs["file"].CopyFrom(tf.make_tensor_proto(str(file)))
    return request


def predict_log(x: Any, **options: Any) -> prediction_log_pb2.PredictionLog:
    """A warm-up record of a Predict."""
    request = predict_request("model", x, **options)
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )


def example(x: float) -> Any:
    """A tf.Example with the float feature `x`."""
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature}))
