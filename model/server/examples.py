"""Inference on tf.Examples: Classify, Regress and MultiInference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from model.server import methods
from model.server.errors import invalid, unimplemented
from model.server.servable import Servable, effective_spec, signature_name


@dataclass(frozen=True)
class Task:
    """What one classify or regress signature needs from a run."""

    signature: Any
    feed: str
    fetches: Sequence[str]


def classify(
    servable: Servable,
    request: classification_pb2.ClassificationRequest,
    timeout_seconds: float | None,
    *,
    check_method_names: bool,
) -> classification_pb2.ClassificationResponse:
    """Answer a ClassificationRequest."""
    task = _named_task(servable, request.model_spec, classify_task, check_method_names)
    values, count = _run(servable, request.input, {task.feed}, task.fetches, timeout_seconds)
    return classification_pb2.ClassificationResponse(
        model_spec=effective_spec(request.model_spec, servable.version),
        result=classifications(task.signature, values, count),
    )


def regress(
    servable: Servable,
    request: regression_pb2.RegressionRequest,
    timeout_seconds: float | None,
    *,
    check_method_names: bool,
) -> regression_pb2.RegressionResponse:
    """Answer a RegressionRequest."""
    task = _named_task(servable, request.model_spec, regress_task, check_method_names)
    values, count = _run(servable, request.input, {task.feed}, task.fetches, timeout_seconds)
    return regression_pb2.RegressionResponse(
        model_spec=effective_spec(request.model_spec, servable.version),
        result=regressions(task.signature, values, count),
    )


def multi_inference(
    servable: Servable,
    request: inference_pb2.MultiInferenceRequest,
    timeout_seconds: float | None,
    *,
    check_method_names: bool,
) -> tuple[inference_pb2.MultiInferenceResponse, int]:
    """Answer a MultiInferenceRequest in one run; also how many examples it carried."""
    tasks = _tasks(servable, request, check_method_names)
    feeds = {task.feed for task in tasks}
    fetches = sorted({fetch for task in tasks for fetch in task.fetches})
    values, count = _run(servable, request.input, feeds, fetches, timeout_seconds)
    response = inference_pb2.MultiInferenceResponse()
    for asked, task in zip(request.tasks, tasks, strict=True):
        result = response.results.add(model_spec=effective_spec(asked.model_spec, servable.version))
        if asked.method_name == methods.CLASSIFY:
            result.classification_result.CopyFrom(classifications(task.signature, values, count))
        else:
            result.regression_result.CopyFrom(regressions(task.signature, values, count))
    return response, count


def serialized_examples(given: input_pb2.Input) -> np.ndarray:
    """The examples as one vector of serialized tf.Example, the context before each.

    Concatenated serialized messages parse as their merge, which is how the context reaches every
    example.
    """
    kind = given.WhichOneof("kind")
    context = b""
    examples: Any = ()
    if kind == "example_list":
        examples = given.example_list.examples
    elif kind == "example_list_with_context":
        examples = given.example_list_with_context.examples
        context = given.example_list_with_context.context.SerializeToString()
    if not examples:
        invalid("Input is empty.")
    array = np.empty(len(examples), object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def classify_task(signature: Any, check_method_names: bool) -> Task:
    """What a classify signature feeds and fetches."""
    if check_method_names and signature.method_name != methods.CLASSIFY:
        invalid(
            f"Expected classification signature method_name to be {methods.CLASSIFY}. "
            f"Was: {signature.method_name}"
        )
    _check_one_input(signature)
    if len(signature.outputs) not in {1, 2}:
        invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if methods.INPUTS not in signature.inputs:
        invalid(f"No classification inputs found in SignatureDef: {signature}")
    fetches = [
        signature.outputs[alias].name
        for alias in (methods.CLASSES, methods.SCORES)
        if alias in signature.outputs
    ]
    if not fetches:
        invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"{methods.CLASSES}" or "{methods.SCORES}". Signature was: {signature}'
        )
    return Task(signature, signature.inputs[methods.INPUTS].name, fetches)


def regress_task(signature: Any, check_method_names: bool) -> Task:
    """What a regress signature feeds and fetches."""
    if check_method_names and signature.method_name != methods.REGRESS:
        invalid(
            f"Expected regression signature method_name to be {methods.REGRESS}. "
            f"Was: {signature.method_name}"
        )
    _check_one_input(signature)
    if len(signature.outputs) != 1:
        invalid("Expected one output Tensor.")
    if methods.INPUTS not in signature.inputs:
        invalid(f"No regression inputs found in SignatureDef: {signature}")
    if methods.OUTPUTS not in signature.outputs:
        invalid(f"No regression outputs found in SignatureDef: {signature}")
    return Task(
        signature,
        signature.inputs[methods.INPUTS].name,
        [signature.outputs[methods.OUTPUTS].name],
    )


def classifications(
    signature: Any, values: Mapping[str, np.ndarray], count: int
) -> classification_pb2.ClassificationResult:
    """Labels and scores of each example."""
    classes = _fetched(signature, methods.CLASSES, values)
    scores = _fetched(signature, methods.SCORES, values)
    _check_classes(classes, count, methods.CLASSES, tf.string)
    _check_classes(scores, count, methods.SCORES, tf.float32)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        invalid(
            "Tensors class and score should match in dim_size(1). "
            f"Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        classified = result.classifications.add()
        labels = [] if classes is None else classes[row].tolist()
        numbers = [] if scores is None else scores[row].tolist()
        for column in range(max(len(labels), len(numbers))):
            entry = classified.classes.add()
            if labels:
                entry.label = labels[column].decode("utf-8", "replace")
            if numbers:
                entry.score = numbers[column]
    return result


def regressions(
    signature: Any, values: Mapping[str, np.ndarray], count: int
) -> regression_pb2.RegressionResult:
    """One value for each example."""
    output = values[signature.outputs[methods.OUTPUTS].name]
    if output.ndim != 1 and (output.ndim != 2 or output.shape[1] != 1):
        invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {_shape_text(output)}"
        )
    if output.shape[0] != count:
        invalid(f"Input batch size did not match output batch size: {count} vs. {output.shape[0]}")
    if output.dtype != np.float32:
        invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype_text(output)}")
    result = regression_pb2.RegressionResult()
    for value in output.reshape(-1).tolist():
        result.regressions.add(value=value)
    return result


def _named_task(
    servable: Servable, spec: Any, make_task: Callable[[Any, bool], Task], check: bool
) -> Task:
    name = signature_name(spec)
    if name not in servable.signatures:
        invalid(f"No signature was found with the name: {name}")
    return make_task(servable.signatures[name], check)


def _tasks(
    servable: Servable, request: inference_pb2.MultiInferenceRequest, check: bool
) -> list[Task]:
    tasks: list[Task] = []
    seen: set[str] = set()
    for asked in request.tasks:
        if not asked.model_spec.name:
            invalid("Found ModelSpec with an empty model name.")
        if asked.model_spec.name != request.tasks[0].model_spec.name:
            invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = signature_name(asked.model_spec)
        if name in seen:
            invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in servable.signatures:
            invalid(f"Requested signature not found in model graph: {name}")
        tasks.append(_task_of_method(servable.signatures[name], asked.method_name, check))
    return tasks


def _task_of_method(signature: Any, method_name: str, check: bool) -> Task:
    if method_name == methods.CLASSIFY:
        return classify_task(signature, check)
    if method_name == methods.REGRESS:
        return regress_task(signature, check)
    return unimplemented(f"Unsupported signature method_name: {method_name}")


def _run(
    servable: Servable,
    given: input_pb2.Input,
    feeds: set[str],
    fetches: Sequence[str],
    timeout_seconds: float | None,
) -> tuple[dict[str, np.ndarray], int]:
    examples = serialized_examples(given)
    values = servable.session.run(dict.fromkeys(feeds, examples), fetches, timeout_seconds)
    arrays = [np.asarray(value) for value in values]
    return dict(zip(fetches, arrays, strict=True)), len(examples)


def _fetched(signature: Any, alias: str, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if alias not in signature.outputs:
        return None
    return values[signature.outputs[alias].name]


def _check_one_input(signature: Any) -> None:
    if len(signature.inputs) != 1:
        invalid("Expected one input Tensor.")


def _check_classes(values: np.ndarray | None, count: int, alias: str, dtype: Any) -> None:
    if values is None:
        return
    if values.ndim != 2:
        invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(values)}")
    if tf.as_dtype(values.dtype) != dtype:
        invalid(
            f"Expected {alias} Tensor of DT_{'STRING' if dtype == tf.string else 'FLOAT'}. "
            f"Got: {_dtype_text(values)}"
        )
    if values.shape[0] != count:
        invalid(f"Expected {alias} output batch size of {count}. Got: {values.shape[0]}")


def _shape_text(values: np.ndarray) -> str:
    return f"[{','.join(str(size) for size in values.shape)}]"


def _dtype_text(values: np.ndarray) -> str:
    enum = tf.as_dtype(values.dtype).as_datatype_enum
    return str(types_pb2.DataType.Name(enum))
