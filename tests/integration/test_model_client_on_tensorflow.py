"""The client and TensorFlow's own runtime: what is sent comes back, in each type and both forms."""

from collections.abc import Iterator

import numpy as np
import pytest

from gateway import errors
from gateway.deadline import Deadline
from gateway.model_client.client import ModelClient, ModelSpec, VersionStatus
from tests.support.echo_model import write_echo
from tests.support.model_server import ModelServer, starting

MODEL = ModelSpec("echo")
NUMBERS = {
    "float32": [[1.5, -0.0], [np.inf, np.nan]],
    "float64": [[1e300, 5e-324]],
    "float16": [[1.5, 65504.0, -0.0]],
    "int8": [-128, 127],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1, 0],
    "int64": [-(2**63), 2**63 - 1, 300],
    "uint8": [0, 255],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
    "bool": [True, False],
}
ARRAYS = {name: np.array(values, name) for name, values in NUMBERS.items()}
ARRAYS["string"] = np.array([[b"", b"\xff\0"], ["ä".encode(), b"x" * 300]], object)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModelServer, ModelServer]]:
    """One that answers in `*_val` fields and one in `tensor_content`, started together."""
    base = tmp_path_factory.mktemp("echo")
    write_echo(base / "3")
    flags = {"model_name": "echo", "model_base_path": base}
    with (
        starting(enable_serialization_as_tensor_content=False, **flags) as in_values,
        starting(enable_serialization_as_tensor_content=True, **flags) as in_content,
    ):
        yield in_values, in_content


@pytest.fixture(scope="module", params=[0, 1], ids=["values", "content"])
def client(
    request: pytest.FixtureRequest, servers: tuple[ModelServer, ModelServer]
) -> Iterator[ModelClient]:
    client = ModelClient(("127.0.0.1", servers[request.param].port))
    yield client
    client.close()


@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_sent_comes_back(client: ModelClient, name: str) -> None:
    array = ARRAYS[name]
    prediction = client.predict(MODEL, name, {"x": array}, Deadline.after(60), ("y",))
    assert prediction.version == 3
    (read,) = prediction.outputs.values()
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    if name == "string":
        assert read.tolist() == array.tolist()
    else:
        assert read.tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", [(0, 3), (1,), (2, 3, 4)])
def test_shapes_come_back(client: ModelClient, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    prediction = client.predict(MODEL, "float32", {"x": array}, Deadline.after(60))
    np.testing.assert_array_equal(prediction.outputs["y"], array, strict=True)


def test_metadata_has_the_types_of_each_signature(client: ModelClient) -> None:
    metadata = client.metadata(MODEL, Deadline.after(60))
    assert metadata.version == 3
    for name, array in ARRAYS.items():
        signature = metadata.signatures[name]
        assert signature.inputs["x"].dtype == array.dtype
        assert signature.outputs["y"].dtype == array.dtype


def test_status_names_the_version(client: ModelClient) -> None:
    assert client.status("echo", Deadline.after(60)) == (VersionStatus(3, "AVAILABLE", 0, ""),)


@pytest.mark.parametrize(
    ("spec", "signature", "error"),
    [
        (ModelSpec("echo", 7), "float32", errors.ModelNotFound),
        (ModelSpec("other"), "float32", errors.ModelNotFound),
        (ModelSpec("echo", label="new"), "float32", errors.ModelNotFound),
        (MODEL, "no such signature", errors.ModelRejectedInput),
        (MODEL, "int32", errors.ModelRejectedInput),
    ],
)
def test_a_wrong_call_is_named(
    client: ModelClient, spec: ModelSpec, signature: str, error: type[errors.GatewayError]
) -> None:
    with pytest.raises(error):
        client.predict(spec, signature, {"x": ARRAYS["float32"]}, Deadline.after(60))
