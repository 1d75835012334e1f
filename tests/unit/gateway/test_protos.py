"""The generated code that is committed is that of the .proto files that are committed."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from gateway.model_client.protos import generate, serving_pb2, tensor_pb2


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    output = tmp_path_factory.mktemp("generated")
    generate.generate(output)
    return output


def description(code: str) -> FileDescriptorProto:
    """The description of the .proto file that generated code hands to the runtime."""
    start = code.index("AddSerializedFile(") + len("AddSerializedFile(")
    literal = code[start : code.index(")\n", start)]
    return FileDescriptorProto.FromString(eval(literal))  # noqa: S307 - code made by this test


@pytest.mark.parametrize("module", [serving_pb2, tensor_pb2], ids=["serving", "tensor"])
def test_committed_code_describes_the_committed_proto(module: Any, generated: Path) -> None:
    fresh = generated / Path(module.__file__).relative_to(generate.ROOT)
    committed = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(committed)
    assert committed == description(fresh.read_text())


@pytest.mark.parametrize("module", [serving_pb2, tensor_pb2], ids=["serving", "tensor"])
def test_committed_types_are_those_of_the_committed_proto(module: Any, generated: Path) -> None:
    committed = Path(module.__file__).with_suffix(".pyi")
    fresh = generated / committed.relative_to(generate.ROOT)
    assert committed.read_text() == fresh.read_text()


def test_every_proto_has_its_code() -> None:
    protos = sorted(path.stem for path in generate.PROTOS.glob("*.proto"))
    codes = sorted(path.stem.removesuffix("_pb2") for path in generate.PROTOS.glob("*_pb2.py"))
    assert protos == codes == ["serving", "tensor"]


def test_no_message_takes_the_name_of_tensorflows() -> None:
    for module in (serving_pb2, tensor_pb2):
        assert module.DESCRIPTOR.package == "tensorgate.serving"
        assert module.DESCRIPTOR.name.startswith("gateway/model_client/protos/")
