"""SavedModel directories: read without loading the model, run in a Session, given a contract.

TensorFlow Serving runs a SavedModel's MetaGraphDef in a Session and calls it by the tensor names
of its SignatureDefs, so that is what is read, run and edited here.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef, TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from model.contract import Signature, Tensor

CONTRACT_SIGNATURE = "contract"
CONTRACT_INPUT = "request"
CONTRACT_OUTPUT = "contract"
CONTRACT_FILE = Path("assets.extra") / "contract.json"
PREDICT_METHOD = "tensorflow/serving/predict"
SERVE = "serve"

Arrays = Mapping[str, npt.NDArray[np.generic]]


class NotASavedModel(Exception):
    """The directory holds no SavedModel that TensorFlow Serving could load."""


def read(directory: Path) -> SavedModel:
    """The SavedModel message of a directory.

    Raises:
        NotASavedModel: there is none, or none of its graphs is tagged for serving.
    """
    path = directory / "saved_model.pb"
    saved_model = SavedModel()
    try:
        saved_model.ParseFromString(path.read_bytes())
    except FileNotFoundError as error:
        raise NotASavedModel(f"there is no saved_model.pb in {directory}") from error
    except DecodeError as error:
        raise NotASavedModel(f"{path} is damaged: {error}") from error
    serving_graph(saved_model)
    return saved_model


def serving_graph(saved_model: SavedModel) -> MetaGraphDef:
    """The graph tagged for serving.

    Raises:
        NotASavedModel: there is none.
    """
    for graph in saved_model.meta_graphs:
        if list(graph.meta_info_def.tags) == [SERVE]:
            return graph
    raise NotASavedModel(f'no graph of the SavedModel has the one tag "{SERVE}"')


def signatures(saved_model: SavedModel) -> dict[str, Signature]:
    """The signatures that TensorFlow Serving would offer, by name."""
    return {
        name: Signature(name, _tensors(definition.inputs), _tensors(definition.outputs))
        for name, definition in sorted(serving_graph(saved_model).signature_def.items())
        if not name.startswith("__saved_model")
    }


def _tensors(infos: Mapping[str, TensorInfo]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name, types_pb2.DataType.Name(info.dtype), _shape(info))
        for name, info in sorted(infos.items())
    )


def _shape(info: TensorInfo) -> tuple[int, ...] | None:
    if info.tensor_shape.unknown_rank:
        return None
    return tuple(dimension.size for dimension in info.tensor_shape.dim)


def add_contract(directory: Path, text: str) -> None:
    """Give the SavedModel the signature `contract` and `assets.extra/contract.json`.

    The signature repeats the text for each element of its input: an input, because
    TensorFlow Serving's batching measures a call by its inputs. Only the graph is
    edited, so any SavedModel can carry one and its variables stay as they are.
    """
    saved_model = read(directory)
    graph = serving_graph(saved_model)
    taken = {node.name for node in graph.graph_def.node}
    scope = next(
        name
        for name in ("contract", *(f"contract_{n}" for n in range(1, 1000)))
        if not any(node == name or node.startswith(name + "/") for node in taken)
    )
    with tf.Graph().as_default() as contract_graph, tf.name_scope(f"{scope}/"):
        request = tf.compat.v1.placeholder(tf.string, [None], name=CONTRACT_INPUT)
        answer = tf.fill(tf.shape(request), tf.constant(text))
    definition = SignatureDef(method_name=PREDICT_METHOD)
    definition.inputs[CONTRACT_INPUT].CopyFrom(_tensor_info(request))
    definition.outputs[CONTRACT_OUTPUT].CopyFrom(_tensor_info(answer))
    graph.graph_def.node.extend(contract_graph.as_graph_def().node)
    graph.signature_def[CONTRACT_SIGNATURE].CopyFrom(definition)
    (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString(deterministic=True))
    path = directory / CONTRACT_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _tensor_info(tensor: tf.Tensor) -> TensorInfo:
    """How a signature names a tensor that has one dimension of unknown size."""
    info = TensorInfo(name=tensor.name, dtype=tensor.dtype.as_datatype_enum)
    info.tensor_shape.dim.add().size = -1
    return info


def carried_contract(saved_model: SavedModel) -> str | None:
    """The text that the SavedModel's `contract` signature gives, or None without one.

    No variable is needed for it, so only the graph is loaded.
    """
    graph = serving_graph(saved_model)
    if CONTRACT_SIGNATURE not in graph.signature_def:
        return None
    definition = graph.signature_def[CONTRACT_SIGNATURE]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph.graph_def, name="")
        texts = session.run(
            definition.outputs[CONTRACT_OUTPUT].name,
            {definition.inputs[CONTRACT_INPUT].name: np.array([b""], dtype=object)},
        )
    return bytes(texts[0]).decode()


def run(
    directory: Path, calls: Mapping[str, Arrays]
) -> dict[str, dict[str, npt.NDArray[np.generic]]]:
    """Load the directory in a graph Session, as TensorFlow Serving does, and call signatures.

    Args:
        directory: the SavedModel.
        calls: signature name to its inputs.

    Returns:
        Signature name to its outputs.
    """
    answers = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, [SERVE], str(directory))
        for name, inputs in calls.items():
            definition = graph.signature_def[name]
            fetches = {key: info.name for key, info in definition.outputs.items()}
            feeds = {definition.inputs[key].name: array for key, array in inputs.items()}
            answers[name] = session.run(fetches, feeds)
    return answers
