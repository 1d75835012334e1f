"""Config messages of TensorFlow Serving that its Python package leaves out.

Built from their field numbers, so that `google.protobuf.text_format` reads their files.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

PACKAGE = "tensorgate.model.server"
Field = descriptor_pb2.FieldDescriptorProto

INT64_VALUE = wrappers_pb2.Int64Value.DESCRIPTOR.full_name
STRING_VALUE = wrappers_pb2.StringValue.DESCRIPTOR.full_name
BOOL_VALUE = wrappers_pb2.BoolValue.DESCRIPTOR.full_name

MESSAGES: dict[str, dict[str, tuple[int, int | str, bool]]] = {
    "BatchingParameters": {
        "max_batch_size": (1, INT64_VALUE, False),
        "batch_timeout_micros": (2, INT64_VALUE, False),
        "max_enqueued_batches": (3, INT64_VALUE, False),
        "num_batch_threads": (4, INT64_VALUE, False),
        "thread_pool_name": (5, STRING_VALUE, False),
        "allowed_batch_sizes": (6, Field.TYPE_INT64, True),
        "pad_variable_length_inputs": (7, Field.TYPE_BOOL, False),
        "enable_large_batch_splitting": (8, BOOL_VALUE, False),
        "max_execution_batch_size": (9, INT64_VALUE, False),
    },
    "SSLConfig": {
        "server_key": (1, Field.TYPE_STRING, False),
        "server_cert": (2, Field.TYPE_STRING, False),
        "custom_ca": (3, Field.TYPE_STRING, False),
        "client_verify": (4, Field.TYPE_BOOL, False),
    },
    "PrometheusConfig": {
        "enable": (1, Field.TYPE_BOOL, False),
        "path": (2, Field.TYPE_STRING, False),
    },
    "MonitoringConfig": {
        "prometheus_config": (1, f"{PACKAGE}.PrometheusConfig", False),
    },
}
"""Number, type (a message's by its name) and whether it repeats, of each field."""


def new_message(name: str) -> Any:
    """An empty message of this name."""
    return _classes()[name]()


@cache
def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    pool.Add(_file(wrappers.name))
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


def _file(wrappers: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="model_server.proto", package=PACKAGE, syntax="proto3", dependency=[wrappers]
    )
    for name, fields in MESSAGES.items():
        described = file.message_type.add(name=name)
        for field_name, (number, kind, repeats) in fields.items():
            label = Field.LABEL_REPEATED if repeats else Field.LABEL_OPTIONAL
            field = described.field.add(name=field_name, number=number, label=label)
            if isinstance(kind, str):
                field.type = Field.TYPE_MESSAGE
                field.type_name = f".{kind}"
            else:
                field.type = Field.Type.ValueType(kind)
    return file
