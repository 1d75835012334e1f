"""The book's gateway, made again from its description, to be measured against ours.

What it does and what its deployments set: one Flask route, gunicorn with its defaults (one sync
worker), keras-image-helper to fetch and prepare, a PredictRequest message built for each call,
scores read with `float_val` and zipped with the labels. Started as
`gunicorn --bind HOST:PORT benchmarks.book_service:app`.
"""

import os
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from flask import Flask, jsonify, request
from keras_image_helper import create_preprocessor

from gateway.model_client.protos import serving_pb2, tensor_pb2

LABELS = ["dress", "hat", "longsleeve", "outwear", "pants"]
LABELS += ["shirt", "shoes", "shorts", "skirt", "t-shirt"]
INPUT = os.getenv("BOOK_INPUT", "input_8")
OUTPUT = os.getenv("BOOK_OUTPUT", "dense_7")
DEADLINE_SECONDS = 20.0

channel = grpc.insecure_channel(os.getenv("TF_SERVING_HOST", "localhost:8500"))
predict_call = channel.unary_unary(
    "/tensorflow.serving.PredictionService/Predict",
    request_serializer=serving_pb2.PredictRequest.SerializeToString,
    response_deserializer=serving_pb2.PredictResponse.FromString,
)
preprocessor = create_preprocessor("xception", target_size=(299, 299))
app = Flask("book")


def to_message(array: npt.NDArray[np.float32]) -> tensor_pb2.Tensor:
    """The tensor as a message, as the book's proto.py makes it."""
    shape = tensor_pb2.TensorShape(
        dim=[tensor_pb2.TensorShape.Dim(size=size) for size in array.shape]
    )
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DT_FLOAT, tensor_shape=shape, tensor_content=array.tobytes()
    )


@app.post("/predict")
def predict() -> Any:
    """Scores by label."""
    pictures = preprocessor.from_url(request.get_json()["url"])
    message = serving_pb2.PredictRequest()
    message.model_spec.name = "clothing-model"
    message.model_spec.signature_name = "serving_default"
    message.inputs[INPUT].CopyFrom(to_message(pictures))
    answer = predict_call(message, timeout=DEADLINE_SECONDS)
    return jsonify(dict(zip(LABELS, scores(answer.outputs[OUTPUT]), strict=False)))


def scores(tensor: tensor_pb2.Tensor) -> list[float]:
    """The scores. Our messages keep `float_val` as its packed bytes, which numpy reads."""
    content = tensor.tensor_content or b"".join(tensor.float_val)
    values: list[float] = np.frombuffer(content, np.float32).tolist()
    return values
