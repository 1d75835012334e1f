"""Models run in a session, as TensorFlow Serving runs them."""

import re
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf

from model.server import loader
from model.server.errors import ServingError
from tests.support import tiny_models


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_half_plus(tmp_path_factory.mktemp("half") / "1", 2.5)


@pytest.fixture(scope="module")
def bundle(half: Path) -> loader.Bundle:
    return load(half)


def load(path: Path, *tags: str) -> loader.Bundle:
    return loader.load(str(path), tags or ("serve",), tf.compat.v1.ConfigProto())


def run(bundle: loader.Bundle, name: str, x: object) -> np.ndarray:
    signature = bundle.signatures[name]
    [(_, given)], [(_, answered)] = signature.inputs.items(), signature.outputs.items()
    [value] = bundle.session.run({given.name: np.asarray(x)}, [answered.name])
    return np.asarray(value)


def error_of_run(bundle: loader.Bundle, name: str, x: object) -> ServingError:
    with pytest.raises(ServingError) as caught:
        run(bundle, name, x)
    return caught.value


def test_variables_are_restored(bundle: loader.Bundle) -> None:
    assert run(bundle, "serving_default", np.array([[2.0]], np.float32)).tolist() == [[3.5]]


def test_tables_are_initialised_from_the_models_own_assets(bundle: loader.Bundle) -> None:
    assert run(bundle, "text", np.array([1, 0, 7], np.int64)).tolist() == [
        b"warm",
        b"cold",
        b"none",
    ]


def test_a_wrong_dtype_is_the_runtimes_own_error(bundle: loader.Bundle) -> None:
    error = error_of_run(bundle, "serving_default", np.array([b"a"], object))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.message == "Expects arg[0] to be float but string is provided"


def test_a_wrong_shape_is_the_first_operations_error_without_pythons_wrapping(
    bundle: loader.Bundle,
) -> None:
    error = error_of_run(bundle, "matrix", np.ones((1, 3), np.float32))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.message == (
        "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,2]\n\t [[{{node product}}]]"
    )


def test_a_run_that_takes_too_long_is_stopped(bundle: loader.Bundle) -> None:
    signature = bundle.signatures["wait"]
    with pytest.raises(ServingError) as caught:
        bundle.session.run(
            {signature.inputs["x"].name: np.array([1], np.float32)},
            [signature.outputs["y"].name],
            0.05,
        )
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.message == "Timed out waiting for notification"


def test_a_tensor_that_the_graph_lacks_is_not_found(bundle: loader.Bundle) -> None:
    with pytest.raises(ServingError) as caught:
        bundle.session.run({}, ["nothing:0"])
    assert str(caught.value) == "NOT_FOUND: FetchOutputs node nothing:0: not found"


def test_a_keras_3_model_saved_the_wrong_way_loads_and_every_call_fails(tmp_path: Path) -> None:
    import keras  # noqa: PLC0415 -- only this test pays for it

    network = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    tf.saved_model.save(network, str(tmp_path / "1"))
    error = error_of_run(load(tmp_path / "1"), "serving_default", np.ones((1, 4), np.float32))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    # Which of the two the runtime looks for first differs between runs.
    assert re.match(r"Could not find variable \S+/(kernel|bias)\. ", error.message)


def test_the_tags_choose_the_graph(tmp_path: Path) -> None:
    path = tiny_models.write_half_plus(tmp_path / "1", tags=("serve", "gpu"))
    assert load(path, "gpu", "serve").signatures
    with pytest.raises(ServingError, match=r"NOT_FOUND: .*matching supplied tags: \{ serve \}"):
        load(path)


def test_a_directory_without_a_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=f"NOT_FOUND: .*export directory path: {tmp_path}"):
        load(tmp_path)


def test_a_file_that_is_no_model_is_data_loss(tmp_path: Path) -> None:
    path = tiny_models.write_broken(tmp_path / "1")
    with pytest.raises(ServingError, match=r"DATA_LOSS: Can't parse .* as binary proto"):
        load(path)


def test_an_unreadable_checkpoint_fails_the_load_with_the_runtimes_text(tmp_path: Path) -> None:
    path = tiny_models.write_half_plus(tmp_path / "1")
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(ServingError) as caught:
        load(path)
    assert "{{node save/RestoreV2}}" in caught.value.message
    assert "Original stack trace" not in caught.value.message


def test_a_model_in_text_form_loads(tmp_path: Path, half: Path) -> None:
    from google.protobuf import text_format  # noqa: PLC0415
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415

    saved = saved_model_pb2.SavedModel.FromString((half / "saved_model.pb").read_bytes())
    for name in ("variables", "assets"):
        (tmp_path / name).symlink_to(half / name)
    (tmp_path / "saved_model.pbtxt").write_text(text_format.MessageToString(saved))
    assert run(load(tmp_path), "serving_default", np.array([0.0], np.float32)).tolist() == [2.5]
