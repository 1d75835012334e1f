"""Status and metadata as the JSON of protocol buffers: one space of indentation, int64 as text."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from grpc import StatusCode
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

from model.server.errors import ServingError

SIGNATURE_DEF = "signature_def"


def status_body(response: GetModelStatusResponse) -> bytes:
    """The body that answers a status."""
    return (_text(_fields(response)) + "\n").encode()


def metadata_body(response: GetModelMetadataResponse) -> bytes:
    """The body that answers a metadata request.

    Raises:
        ServingError: the response holds no signatures.
    """
    signatures = SignatureDefMap()
    if not response.metadata[SIGNATURE_DEF].Unpack(signatures):
        raise ServingError(
            StatusCode.INTERNAL, "Failed to unpack 'Any' object to 'SignatureDefMap'."
        )
    spec, definitions = _text(_fields(response.model_spec)), _text(_fields(signatures))
    text = f'{{\n"model_spec":{spec}\n,\n"metadata": {{"signature_def": {definitions}\n}}\n}}\n'
    return text.encode()


def _fields(message: Message) -> dict[str, Any]:
    fields = MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
    return _ordered(fields, message.DESCRIPTOR)


def _ordered(fields: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    """The fields as they are declared, but the choice of a `oneof` last, as the server has it."""
    declared = sorted(descriptor.fields, key=lambda field: field.containing_oneof is not None)
    return {
        field.name: _ordered_value(fields[field.name], field.message_type)
        for field in declared
        if field.name in fields
    }


def _ordered_value(value: Any, descriptor: Any) -> Any:
    if isinstance(value, list):
        return [_ordered_value(item, descriptor) for item in value]
    if descriptor is None or not isinstance(value, dict):
        return value
    if descriptor.GetOptions().map_entry:
        of_values = descriptor.fields_by_name["value"].message_type
        return {name: _ordered_value(item, of_values) for name, item in sorted(value.items())}
    return _ordered(value, descriptor)


def _text(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=1, ensure_ascii=False)
