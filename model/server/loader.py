"""Loads a SavedModel into a session, step by step as TensorFlow's C++ loader does.

`tf.saved_model.load` would rebuild the objects that were saved and so answer for models that fail
in TensorFlow Serving; here only the graph, the checkpoint and the initialisation of the chosen
tags are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import message, text_format
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from model.server.errors import ServingError, failed_precondition, not_found
from model.server.session import GraphSession, from_tensorflow, open_session

INIT_SIGNATURE = "__saved_model_init_op"
MAIN_OP_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


@dataclass(frozen=True)
class Bundle:
    """A loaded SavedModel: its signatures by name, and its session."""

    signatures: dict[str, Any]
    session: GraphSession


def load(path: str, tags: Sequence[str], config: Any) -> Bundle:
    """Load the meta graph of exactly these tags.

    Raises:
        ServingError: with the runtime's or the C++ loader's text.
    """
    meta_graph = _meta_graph(_read_saved_model(path), tags)
    session = open_session(_import_graph(meta_graph), config)
    try:
        _restore(session, meta_graph, path)
        _initialise(session, meta_graph, path)
    except BaseException:
        session.close()
        raise
    return Bundle(dict(meta_graph.signature_def), session)


def _read_saved_model(path: str) -> Any:
    binary, text = f"{path}/saved_model.pb", f"{path}/saved_model.pbtxt"
    saved_model = saved_model_pb2.SavedModel()
    try:
        if tf.io.gfile.exists(binary):
            saved_model.ParseFromString(_read(binary))
        elif tf.io.gfile.exists(text):
            text_format.Parse(_read(text), saved_model)
        else:
            not_found(
                "Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
                f"{path}. Check that the directory exists and that you have the right "
                "permissions for accessing it."
            )
    except message.DecodeError as error:
        text = f"Can't parse {binary} as binary proto"
        raise ServingError(grpc.StatusCode.DATA_LOSS, text) from error
    except text_format.ParseError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS, f"Can't parse {text} as text proto"
        ) from error
    return saved_model


def _read(path: str) -> bytes:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return bytes(file.read())
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from error


def _meta_graph(saved_model: Any, tags: Sequence[str]) -> Any:
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    return not_found(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect "
        "available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


def _import_graph(meta_graph: Any) -> Any:
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(
                meta_graph.graph_def,
                name="",
                producer_op_list=meta_graph.meta_info_def.stripped_op_list,
            )
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from error
    except (ValueError, KeyError, TypeError) as error:
        # An operation that this runtime does not know is NOT_FOUND in C++.
        unknown = "Op type not registered" in str(error)
        code = grpc.StatusCode.NOT_FOUND if unknown else grpc.StatusCode.INVALID_ARGUMENT
        raise ServingError(code, str(error)) from error
    return graph


def _restore(session: GraphSession, meta_graph: Any, path: str) -> None:
    """Read the variables; a model that has none has no index file."""
    saver = meta_graph.saver_def
    prefix = f"{path}/variables/variables"
    if not saver.restore_op_name or not tf.io.gfile.exists(f"{prefix}.index"):
        return
    feeds = {saver.filename_tensor_name: _scalar(prefix), **_assets(meta_graph, path)}
    session.run_target(feeds, saver.restore_op_name)


def _initialise(session: GraphSession, meta_graph: Any, path: str) -> None:
    operation = _init_operation(meta_graph)
    if operation:
        session.run_target(_assets(meta_graph, path), operation)


def _init_operation(meta_graph: Any) -> str:
    signature = meta_graph.signature_def.get(INIT_SIGNATURE)
    if signature is not None:
        return str(signature.outputs[INIT_SIGNATURE].name).partition(":")[0]
    for key in MAIN_OP_COLLECTIONS:
        if key in meta_graph.collection_def:
            names = meta_graph.collection_def[key].node_list.value
            if len(names) != 1:
                failed_precondition(f"Expected exactly one main op in : {key}")
            return str(names[0]).partition(":")[0]
    return ""


def _assets(meta_graph: Any, path: str) -> dict[str, np.ndarray]:
    """The files that belong to the model, by the tensors that take their names."""
    files = list(meta_graph.asset_file_def)
    collection = meta_graph.collection_def.get("saved_model_assets")
    if not files and collection is not None:
        for packed in collection.any_list.value:
            file = meta_graph_pb2.AssetFileDef()
            packed.Unpack(file)
            files.append(file)
    return {file.tensor_info.name: _scalar(f"{path}/assets/{file.filename}") for file in files}


def _scalar(text: str) -> np.ndarray:
    array = np.empty((), object)
    array[()] = text.encode()
    return array
