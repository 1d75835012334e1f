"""A SavedModel that answers its inputs, one signature for each dtype that REST knows and others."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.support.tiny_models import PREDICT, signature

v1 = tf.compat.v1
DTYPES = (
    tf.float32,
    tf.float64,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.uint8,
    tf.uint32,
    tf.int64,
    tf.uint64,
    tf.bool,
    tf.string,
    tf.float16,
)


def write_echo(path: Path) -> Path:
    """A model with a signature `<dtype>`, x → y, for each of the dtypes.

    `string` answers `y` and `y_bytes`, and `pair` takes a and b and answers a and b.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], _signatures())
        builder.save()
    return path


def _signatures() -> dict[str, Any]:
    signatures = {}
    for dtype in DTYPES:
        x = v1.placeholder(dtype, name=f"{dtype.name}_x")
        y = tf.identity(x, name=f"{dtype.name}_y")
        outputs = {"y": y, "y_bytes": y} if dtype == tf.string else {"y": y}
        signatures[dtype.name] = signature({"x": x}, outputs, PREDICT)
    a, b = v1.placeholder(tf.int32, name="a"), v1.placeholder(tf.float32, name="b")
    signatures["pair"] = signature(
        {"a": a, "b": b}, {"a": tf.identity(a), "b": tf.identity(b)}, PREDICT
    )
    return signatures
