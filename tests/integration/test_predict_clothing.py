"""The whole way: the clothing model, the embedded model server, the gateway, a picture by URL.

The expected scores come from the same server by TensorFlow Serving's own client library, for the
tensor that Keras makes of the picture: the gateway's must be the same float32s.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.support.picture_host import PictureHost, picture_host
from tests.support.pictures import drawn, saved
from tests.support.processes import ROOT, Address, Gateway, gateway, model_server, python

NAME = "clothing-model"
LABELS = [
    "dress",
    "hat",
    "longsleeve",
    "outwear",
    "pants",
    "shirt",
    "shoes",
    "shorts",
    "skirt",
    "t-shirt",
]


class Running(NamedTuple):
    gateway: Gateway
    server: Address
    host: PictureHost


def pictures() -> dict[str, bytes]:
    random = np.random.default_rng(7)
    return {
        "a.jpg": saved(drawn(random, (400, 533)), "JPEG", quality=90),
        "b.png": saved(drawn(random, (640, 310), "RGBA"), "PNG"),
        "c.jpg": saved(drawn(random, (120, 90), "CMYK"), "JPEG"),
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models = tmp_path_factory.mktemp("models")
    command = [python("model"), "-m", "model.clothing.export", "--output", str(models)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    flags = (f"--model_name={NAME}", f"--model_base_path={models / NAME}")
    with (
        model_server(*flags) as server,
        picture_host(pictures()) as host,
        gateway(server, **host.settings) as started,
    ):
        yield Running(started, server, host)


def scores_by_tensorflow(server: Address, file: Path) -> np.ndarray:
    """The raw scores that Keras and TensorFlow Serving's own client come to."""
    image = keras.utils.load_img(file, target_size=(299, 299))
    tensor = keras.applications.xception.preprocess_input(keras.utils.img_to_array(image))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = NAME
    request.model_spec.signature_name = "serving_default"
    with grpc.insecure_channel("{}:{}".format(*server)) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request.inputs[only_input(server)].CopyFrom(tf.make_tensor_proto(tensor[np.newaxis]))
        (output,) = stub.Predict(request, timeout=30).outputs.values()
    return np.asarray(tf.make_ndarray(output)[0])


def only_input(server: Address) -> str:
    """The name of the model's input, as the server gives it."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = NAME
    with grpc.insecure_channel("{}:{}".format(*server)) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer: Any = stub.GetModelMetadata(request, timeout=30)
    found = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(found)
    (name,) = found.signature_def["serving_default"].inputs
    return str(name)


@pytest.mark.parametrize("name", ["a.jpg", "b.png", "c.jpg"])
def test_a_url_answers_the_models_own_float32_scores(
    running: Running, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(running.host.pictures[name])
    expected = scores_by_tensorflow(running.server, file)
    answer = running.gateway.predict({"url": running.host.url(name)})
    assert answer.status == 200, answer.body
    assert list(answer.json) == LABELS
    assert np.array_equal(np.array(list(answer.json.values()), np.float32), expected)
    assert answer.headers["x-model-version"] == "1"


def test_each_number_is_the_shortest_that_reads_back(running: Running) -> None:
    body = running.gateway.predict({"url": running.host.url("a.jpg")}).body
    numbers = [text for _, text in json.loads(body, parse_float=str).items()]
    assert numbers == [str(np.float32(text)) for text in numbers]


def test_a_list_answers_as_its_pictures_do_alone(running: Running) -> None:
    names = ["c.jpg", "a.jpg", "b.png"]
    listed = running.gateway.predict({"urls": [running.host.url(name) for name in names]})
    for name, entry in zip(names, listed.json["predictions"], strict=True):
        alone = running.gateway.predict({"url": running.host.url(name)}).json
        assert entry["scores"] == pytest.approx(alone, rel=1e-4, abs=1e-4)


def test_models_shows_the_contract_that_travels_with_the_model(running: Running) -> None:
    (model,) = running.gateway.ask("GET", "/models").json["models"]
    (version,) = model["versions"]
    assert version["state"] == "AVAILABLE"
    assert version["contract"]["labels"] == LABELS
    assert version["contract"]["input"]["shape"] == [-1, 299, 299, 3]
    assert version["contract"]["preprocessing"]["scaling"] == "tf"
