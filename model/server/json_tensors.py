"""Predict's requests: JSON to tensors.

`instances` is the row format: one element for each row, and the answer's `predictions` likewise.
`inputs` is the column format: whole tensors, and the answer's `outputs` likewise. Every rule and
every text is TensorFlow Serving's.
"""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from grpc import StatusCode
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from model.server import json_values as values
from model.server import json_writer as writer
from model.server.errors import ServingError, invalid
from model.server.json_reader import Members, ParseError, Value, read, string_bytes

SIGNATURE: Final = "signature_name"
INSTANCES: Final = "instances"
INPUTS: Final = "inputs"

Infos = Mapping[str, TensorInfo]


class Form(enum.Enum):
    """How a request gave its tensors, and so how the answer gives its own."""

    ROW = "predictions"
    COLUMN = "outputs"


def read_object(body: bytes) -> Members:
    """The object that a body holds.

    Raises:
        ServingError: the body is not JSON, or not an object.
    """
    if not body:
        invalid("JSON Parse error: The document is empty")
    try:
        value = read(body)
    except ParseError as error:
        raise ServingError(StatusCode.INVALID_ARGUMENT, f"JSON Parse error: {error}") from error
    if not isinstance(value, Members):
        invalid(f"JSON Value: {writer.debug_text(value)} Is not object")
    return value


def signature_name(document: Members) -> str:
    """The signature that a body names, or nothing.

    Raises:
        ServingError: the name is not a string.
    """
    if not document.has(SIGNATURE):
        return ""
    name = document.first(SIGNATURE)
    if not isinstance(name, str):
        invalid(
            f"JSON Value: {writer.debug_text(document)} not formatted correctly. "
            f"'{SIGNATURE}' key must be a string value."
        )
    return string_bytes(name).decode("utf-8", "replace")


def fill_predict_request(
    body: bytes, inputs_of: Callable[[str], Infos], request: PredictRequest
) -> Form:
    """Put a body's signature and tensors into a request.

    Args:
        body: the JSON.
        inputs_of: the inputs of a signature by its name, "" for the default one; called once the
            body has parsed.
        request: gets the signature's name and the tensors.

    Returns:
        The form in which the answer is due.

    Raises:
        ServingError: the body does not fit the signature, or `inputs_of` raised.
    """
    document = read_object(body)
    name = signature_name(document)
    request.model_spec.signature_name = name
    infos = inputs_of(name)
    if not infos:
        invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    form, tensors = _tensors(document, infos)
    for key, tensor in tensors:
        request.inputs[key].CopyFrom(tensor)
    return form


def _tensors(document: Members, infos: Infos) -> tuple[Form, Iterator[tuple[str, TensorProto]]]:
    if not document.has(INSTANCES):
        if not document.has(INPUTS):
            invalid(f"Missing '{INPUTS}' or '{INSTANCES}' key")
        return Form.COLUMN, _column_tensors(document.first(INPUTS), infos)
    shown = f"JSON Value: {writer.debug_text(document)}"
    if document.has(INPUTS):
        invalid(
            f"{shown} Not formatted correctly expecting only one of '{INPUTS}' or '{INSTANCES}' "
            "keys to exist "
        )
    elements = document.first(INSTANCES)
    if not isinstance(elements, list):
        invalid(f"{shown} Expecting '{INSTANCES}' to be an list/array")
    if not elements:
        invalid(f"{shown} No values in '{INSTANCES}' array")
    return Form.ROW, _row_tensors(elements, infos)


def _column_tensors(value: Value, infos: Infos) -> Iterator[tuple[str, TensorProto]]:
    if not isinstance(value, Members) or values.is_base64(value):
        if len(infos) > 1:
            invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        name = next(iter(infos))
        yield name, _tensor(value, infos[name].dtype)
        return
    for name in sorted(infos):
        if not value.has(name):
            invalid(f"Missing named input: {name} in 'inputs' object.")
        yield name, _tensor(value.first(name), infos[name].dtype)


def _tensor(value: Value, dtype: int) -> TensorProto:
    shape = values.shape_of(value)
    leaves = values.quick_leaves([value], shape, dtype)
    if leaves is None:
        leaves = values.leaves(value, shape, dtype)
    return values.tensor(leaves, shape, dtype)


@dataclass
class _Column:
    """What the elements so far gave for one input; the first of them sets shape and size."""

    dtype: int
    shape: tuple[int, ...] = ()
    size: int | None = None
    leaves: list[values.Leaf] = field(default_factory=list)

    def add(self, item: Value) -> None:
        """Append one element's values."""
        shape = values.shape_of(item)
        leaves = values.leaves(item, shape, self.dtype)
        self.leaves += leaves
        if self.size is None:
            self.shape, self.size = shape, len(leaves)
        elif self.size != len(leaves):
            invalid(f"Expecting tensor size: {self.size} but got: {len(leaves)}")
        elif self.shape != shape:
            invalid(f"Expecting shape {_shown(self.shape)} but got: {_shown(shape)}")


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _row_tensors(elements: list[Value], infos: Infos) -> Iterator[tuple[str, TensorProto]]:
    first = elements[0]
    if len(infos) > 1 and not isinstance(first, Members):
        invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    read_columns = _named_columns if _is_named(first) else _plain_columns
    columns = _quick_columns(elements, infos) or read_columns(elements, infos)
    for name, column in columns.items():
        shape = (len(elements), *column.shape)
        yield name, values.tensor(column.leaves, shape, column.dtype)


def _is_named(element: Value) -> bool:
    """Whether an element is an object of inputs, not a value."""
    return isinstance(element, Members) and not values.is_base64(element)


def _quick_columns(elements: list[Value], infos: Infos) -> dict[str, _Column] | None:
    """The columns of elements that are all alike and regular, or None."""
    columns = {}
    for name, items in _gathered(elements, sorted(infos)).items():
        shape = values.shape_of(items[0])
        leaves = values.quick_leaves(items, shape, infos[name].dtype)
        if leaves is None:
            return None
        columns[name] = _Column(infos[name].dtype, shape, leaves=list(leaves))
    return columns


def _gathered(elements: list[Value], names: Sequence[str]) -> dict[str, list[Value]]:
    """Each input's values over all elements; nothing when the elements are not alike."""
    if not _is_named(elements[0]):
        return {} if any(map(_is_named, elements)) else {names[0]: elements}
    gathered: dict[str, list[Value]] = {name: [] for name in names}
    for element in elements:
        if not isinstance(element, Members) or sorted(key for key, _ in element.pairs) != names:
            return {}
        for name, value in element.pairs:
            gathered[name].append(value)
    return gathered


def _plain_columns(elements: list[Value], infos: Infos) -> dict[str, _Column]:
    name = min(infos)
    column = _Column(infos[name].dtype)
    for index, element in enumerate(elements):
        if _is_named(element):
            invalid(f"Expecting value/list but got object at item {index} of input list")
        try:
            column.add(element)
        except ServingError as error:
            raise _element_error(f"{index}", error) from error
    return {name: column}


def _named_columns(elements: list[Value], infos: Infos) -> dict[str, _Column]:
    columns: dict[str, _Column] = {}
    for index, element in enumerate(elements):
        if not isinstance(element, Members) or values.is_base64(element):
            invalid(f"Expecting object but got list at item {index} of input list")
        for name, value in element.pairs:
            try:
                _add_named(columns, name, value, infos)
            except ServingError as error:
                raise _element_error(f"{index} key: {name}", error) from error
        if {name for name, _ in element.pairs} != set(infos):
            invalid(
                f"Failed to process element: {index} of '{INSTANCES}' list. JSON object: "
                f"{writer.debug_text(element)} keys must be equal to: {','.join(sorted(infos))}"
            )
    return columns


def _element_error(place: str, error: ServingError) -> ServingError:
    return ServingError(
        StatusCode.INVALID_ARGUMENT,
        f"Failed to process element: {place} of '{INSTANCES}' list. Error: {error}",
    )


def _add_named(columns: dict[str, _Column], name: str, value: Value, infos: Infos) -> None:
    if name not in infos:
        invalid(f"JSON object: does not have named input: {name}")
    columns.setdefault(name, _Column(infos[name].dtype)).add(value)
