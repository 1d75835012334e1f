"""The messages of tensorflow-serving-api are the oracle of requests and answers."""

import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2 as official_tensor
from tensorflow.core.framework import tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    status_pb2,
)

from gateway.errors import ModelFailed, ModelNotFound
from gateway.model_client import messages, tensors
from gateway.model_client.messages import ModelSpec, VersionStatus
from gateway.model_client.protos import serving_pb2, tensor_pb2

QUICK = settings(max_examples=60, deadline=None)
NAMES = st.text(max_size=20)
VERSIONS = st.integers(-(2**63), 2**63 - 1)
SPECS = st.one_of(
    st.builds(ModelSpec, NAMES),
    st.builds(ModelSpec, NAMES, version=VERSIONS),
    st.builds(ModelSpec, NAMES, label=NAMES),
)
INPUTS = st.dictionaries(
    NAMES,
    st.sampled_from([np.array([[1.5]], np.float32), np.array([b"a"], object), np.int64(7)]),
    max_size=3,
)
COUNTERPARTS: dict[Any, Any] = {
    ours.DESCRIPTOR: official.DESCRIPTOR
    for ours, official in (
        (tensor_pb2.Tensor, official_tensor.TensorProto),
        (tensor_pb2.TensorShape, tensor_shape_pb2.TensorShapeProto),
        (tensor_pb2.TensorShape.Dim, tensor_shape_pb2.TensorShapeProto.Dim),
        (tensor_pb2.TensorInfo, meta_graph_pb2.TensorInfo),
        (tensor_pb2.SignatureDef, meta_graph_pb2.SignatureDef),
        (serving_pb2.ModelSpec, model_pb2.ModelSpec),
        (serving_pb2.PredictRequest, predict_pb2.PredictRequest),
        (serving_pb2.PredictResponse, predict_pb2.PredictResponse),
        (serving_pb2.SignatureDefMap, get_model_metadata_pb2.SignatureDefMap),
        (serving_pb2.GetModelMetadataRequest, get_model_metadata_pb2.GetModelMetadataRequest),
        (serving_pb2.GetModelMetadataResponse, get_model_metadata_pb2.GetModelMetadataResponse),
        (serving_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
        (serving_pb2.StatusProto, status_pb2.StatusProto),
        (serving_pb2.ModelVersionStatus, get_model_status_pb2.ModelVersionStatus),
        (serving_pb2.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
    )
}


def official_spec(spec: ModelSpec, signature: str = "") -> model_pb2.ModelSpec:
    message = model_pb2.ModelSpec(name=spec.name, signature_name=signature)
    if spec.version is not None:
        message.version.value = spec.version
    if spec.label is not None:
        message.version_label = spec.label
    return message


def answered_by(version: int) -> model_pb2.ModelSpec:
    return official_spec(ModelSpec("clothing-model", version), "serving_default")


def test_both_kinds_of_messages_live_in_one_process() -> None:
    assert "tensorflow" in sys.modules
    pool = descriptor_pool.Default()
    for name in ("tensorflow.serving.PredictRequest", "tensorgate.serving.PredictRequest"):
        assert pool.FindMessageTypeByName(name).full_name == name


def test_every_message_of_ours_has_a_counterpart() -> None:
    files = (tensor_pb2.DESCRIPTOR, serving_pb2.DESCRIPTOR)
    declared = {message for file in files for message in file.message_types_by_name.values()}
    nested = {inner for message in declared for inner in message.nested_types}
    maps = {message for message in nested if message.GetOptions().map_entry}
    assert (declared | nested) - maps == set(COUNTERPARTS)


@pytest.mark.parametrize("ours", COUNTERPARTS, ids=lambda message: message.name)
def test_every_field_of_ours_is_tensorflows_on_the_wire(ours: Any) -> None:
    for field in ours.fields:
        official = COUNTERPARTS[ours].fields_by_number[field.number]
        assert field.name == official.name
        if official.name == "version_label":
            assert field.containing_oneof.name == official.containing_oneof.name
        if field.type == FieldDescriptor.TYPE_BYTES:
            assert is_under_a_length(official), field.full_name
        else:
            assert is_same_number(field, official)
            assert field.is_repeated == official.is_repeated
        if field.message_type in COUNTERPARTS:
            assert COUNTERPARTS[field.message_type].full_name == official.message_type.full_name


def is_same_number(field: FieldDescriptor, official: FieldDescriptor) -> bool:
    pair = (field.type, official.type)
    enum_as_number = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM)
    return field.type == official.type or pair == enum_as_number


def is_under_a_length(field: FieldDescriptor) -> bool:
    texts = (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING)
    return bool(field.type in texts or field.is_packed)


@pytest.mark.parametrize(
    ("ours", "official"),
    [
        (tensor_pb2.DataType, types_pb2.DataType),
        (serving_pb2.ModelVersionStatus.State, get_model_status_pb2.ModelVersionStatus.State),
    ],
)
def test_every_name_of_ours_has_tensorflows_number(
    ours: type[tensor_pb2.DataType], official: type[tensor_pb2.DataType]
) -> None:
    assert set(ours.items()) <= set(official.items())


@QUICK
@given(spec=SPECS, signature=NAMES, inputs=INPUTS, outputs=st.lists(NAMES, max_size=3))
def test_a_predict_request_reads_as_tensorflow_servings_own(
    spec: ModelSpec, signature: str, inputs: dict[str, np.ndarray], outputs: list[str]
) -> None:
    octets = messages.predict_request(spec, signature, inputs, outputs)
    request = predict_pb2.PredictRequest.FromString(octets)
    assert request.model_spec == official_spec(spec, signature)
    assert list(request.output_filter) == outputs
    assert {name: tf.make_ndarray(proto).tolist() for name, proto in request.inputs.items()} == {
        name: array.tolist() for name, array in inputs.items()
    }


@QUICK
@given(spec=SPECS)
def test_the_other_requests_equal_tensorflow_servings_own(spec: ModelSpec) -> None:
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=official_spec(spec), metadata_field=["signature_def"]
    )
    read = type(metadata).FromString(messages.metadata_request(spec))
    assert read == metadata
    status = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": spec.name})
    assert type(status).FromString(messages.status_request(spec.name)) == status


@pytest.mark.parametrize(
    "spec",
    [ModelSpec("m", 2**63), ModelSpec("m", -(10**30)), ModelSpec("m", label="\ud800")],
    ids=["too large", "too small", "a lone surrogate"],
)
def test_a_version_that_cannot_be_written_does_not_exist(spec: ModelSpec) -> None:
    for request in (predict_request_for, messages.metadata_request):
        with pytest.raises(ModelNotFound) as caught:
            request(spec)
        assert caught.value.version_named
        assert caught.value.message.encode()


def predict_request_for(spec: ModelSpec) -> bytes:
    return messages.predict_request(spec, "serving_default", {}, ())


def test_a_prediction_is_read_with_the_version_that_computed_it() -> None:
    response = predict_pb2.PredictResponse(model_spec=answered_by(3))
    response.outputs["scores"].CopyFrom(tf.make_tensor_proto(np.array([[1, 2]], np.float32)))
    response.outputs["names"].CopyFrom(tf.make_tensor_proto([b"a", b"\xff"]))
    prediction = messages.read_prediction(response.SerializeToString())
    assert prediction.version == 3
    assert prediction.outputs["scores"].tolist() == [[1.0, 2.0]]
    assert prediction.outputs["names"].tolist() == [b"a", b"\xff"]


def test_an_answer_without_a_version_is_refused() -> None:
    with pytest.raises(ModelFailed, match="which version"):
        messages.read_prediction(predict_pb2.PredictResponse().SerializeToString())


def test_an_output_that_makes_no_sense_is_refused_by_name() -> None:
    response = predict_pb2.PredictResponse(model_spec=answered_by(3))
    response.outputs["scores"].dtype = types_pb2.DT_RESOURCE
    with pytest.raises(ModelFailed, match="'scores'"):
        messages.read_prediction(response.SerializeToString())


def test_all_outputs_together_have_one_bound() -> None:
    response = predict_pb2.PredictResponse(model_spec=answered_by(3))
    for name in ("a", "b"):
        output = response.outputs[name]
        output.CopyFrom(tf.make_tensor_proto(np.float32(1)))
        output.tensor_shape.dim.add(size=tensors.MAX_DECODED_BYTES // 8 + 1)
    with pytest.raises(ModelFailed, match="larger"):
        messages.read_prediction(response.SerializeToString())


@pytest.mark.parametrize(
    "read", [messages.read_prediction, messages.read_metadata, messages.read_status]
)
def test_bytes_that_are_no_message_are_refused(read: object) -> None:
    assert callable(read)
    with pytest.raises(ModelFailed, match="cannot be read"):
        read(b"\x0a\xff\xff\xff\xff\x0fHTTP")


def metadata_of(signatures: meta_graph_pb2.SignatureDef) -> bytes:
    response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=answered_by(4))
    packed = get_model_metadata_pb2.SignatureDefMap(signature_def={"serving_default": signatures})
    response.metadata["signature_def"].Pack(packed)
    return bytes(response.SerializeToString())


def info(data_type: int, *sizes: int, unknown_rank: bool = False) -> meta_graph_pb2.TensorInfo:
    shape = tensor_shape_pb2.TensorShapeProto(unknown_rank=unknown_rank)
    for size in sizes:
        shape.dim.add(size=size)
    return meta_graph_pb2.TensorInfo(name="x:0", dtype=data_type, tensor_shape=shape)


def test_signatures_are_read_with_types_and_shapes() -> None:
    signature = meta_graph_pb2.SignatureDef(
        inputs={
            "pictures": info(types_pb2.DT_FLOAT, -1, 299, 299, 3),
            "names": info(types_pb2.DT_STRING, -1),
            "halves": info(types_pb2.DT_BFLOAT16),
            "table": info(types_pb2.DT_RESOURCE),
        },
        outputs={
            "scores": info(types_pb2.DT_BFLOAT16, -1, 10),
            "any": info(types_pb2.DT_INT64, unknown_rank=True),
        },
        method_name="tensorflow/serving/predict",
    )
    metadata = messages.read_metadata(metadata_of(signature))
    assert metadata.version == 4
    read = metadata.signatures["serving_default"]
    assert read.method_name == "tensorflow/serving/predict"
    assert {name: (spec.dtype, spec.shape) for name, spec in read.inputs.items()} == {
        "pictures": (np.dtype(np.float32), (-1, 299, 299, 3)),
        "names": (np.dtype(object), (-1,)),
        "halves": (tensors.BFLOAT16, ()),
        "table": (np.dtype(np.void), ()),
    }
    assert {name: (spec.dtype, spec.shape) for name, spec in read.outputs.items()} == {
        "scores": (np.dtype(np.float32), (-1, 10)),
        "any": (np.dtype(np.int64), None),
    }


def test_metadata_of_another_type_is_refused() -> None:
    response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=answered_by(4))
    response.metadata["signature_def"].Pack(model_pb2.ModelSpec(name="x"))
    with pytest.raises(ModelFailed, match="no signatures"):
        messages.read_metadata(response.SerializeToString())


def test_the_state_of_each_version_is_read() -> None:
    states = get_model_status_pb2.ModelVersionStatus.State
    response = get_model_status_pb2.GetModelStatusResponse()
    response.model_version_status.add(
        version=7, state=states.END, status={"error_code": 5, "error_message": "gone"}
    )
    response.model_version_status.add(version=8, state=states.AVAILABLE)
    assert messages.read_status(response.SerializeToString()) == (
        VersionStatus(7, "END", 5, "gone"),
        VersionStatus(8, "AVAILABLE", 0, ""),
    )


def test_a_state_from_the_future_is_unknown_and_broken_text_is_shown() -> None:
    response = serving_pb2.GetModelStatusResponse()
    response.model_version_status.add(
        version=7,
        state=35,
        status=serving_pb2.StatusProto(error_code=2, error_message=b"no \xff"),
    )
    assert messages.read_status(response.SerializeToString()) == (
        VersionStatus(7, "UNKNOWN", 2, "no \N{REPLACEMENT CHARACTER}"),
    )


def test_reports_are_merged_to_the_best_state_of_each_version() -> None:
    ended, loading, serving = (VersionStatus(1, s, 0, "") for s in ("END", "LOADING", "AVAILABLE"))
    newer = VersionStatus(2, "START", 0, "")
    merged = messages.merge_status([[ended], [serving, newer], [loading]])
    assert merged == (newer, serving)
