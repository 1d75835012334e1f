"""Predict: one signature on tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from model.server import methods, tensors
from model.server.errors import ServingError, failed_precondition, invalid
from model.server.servable import Servable, effective_spec, signature_name


@dataclass(frozen=True)
class PredictOptions:
    """The flags that change how a request is answered."""

    check_method_names: bool = False
    outputs_as_content: bool = False


def predict(
    servable: Servable,
    request: predict_pb2.PredictRequest,
    timeout_seconds: float | None,
    options: PredictOptions,
) -> predict_pb2.PredictResponse:
    """Answer a PredictRequest, which names its version no more."""
    name = signature_name(request.model_spec)
    if name not in servable.signatures:
        failed_precondition(f'Serving signature key "{name}" not found.')
    signature = servable.signatures[name]
    if options.check_method_names:
        _check_method_name(signature)
    feeds = input_tensors(signature, request.inputs)
    outputs = _outputs(signature, request.output_filter)
    values = servable.session.run(feeds, list(outputs.values()), timeout_seconds)
    response = predict_pb2.PredictResponse(
        model_spec=effective_spec(request.model_spec, servable.version)
    )
    for alias, value in zip(outputs, values, strict=True):
        proto = tensors.to_proto(value, as_content=options.outputs_as_content)
        response.outputs[alias].CopyFrom(proto)
    return response


def _check_method_name(signature: Any) -> None:
    allowed = (methods.PREDICT, methods.CLASSIFY, methods.REGRESS)
    if signature.method_name not in allowed:
        raise ServingError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(allowed)}}}. "
            f"Was: {signature.method_name}",
        )


def input_tensors(signature: Any, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors to feed, by their names in the graph; defaults stand in for what is missing."""
    _check_size(signature, given)
    feeds: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for alias, info in sorted(signature.inputs.items()):
        if alias in given:
            feeds[info.name] = _parsed(alias, given[alias])
            used.add(alias)
        elif alias in signature.defaults:
            feeds[info.name] = _parsed(alias, signature.defaults[alias])
        else:
            _refuse_missing(alias, info.name, given, signature.defaults)
    if given and len(used) != len(given):
        invalid(
            f"Inputs contains invalid name. Used request inputs: {_joined(used)}, "
            f"request input: {_joined(given)}"
        )
    return feeds


def _check_size(signature: Any, given: Mapping[str, Any]) -> None:
    sent, required = set(given), set(signature.inputs)
    too_few = len(sent) < len(required) and not signature.defaults
    if len(sent) > len(required) or too_few:
        invalid(
            f"input size does not match signature: {len(sent)}!={len(required)} "
            f"len({{{_joined(sent)}}}) != len({{{_joined(required)}}}). "
            f"Sent extra: {{{_joined(sent - required)}}}. "
            f"Missing but required: {{{_joined(required - sent)}}}."
        )


def _parsed(alias: str, proto: Any) -> np.ndarray:
    try:
        return tensors.from_proto(proto)
    except ValueError as error:
        message = f"tensor parsing error: {alias}"
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, message) from error


def _refuse_missing(
    alias: str, feed: str, given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    invalid(
        f"Signature input alias: {alias}(feed name: {feed}) not found in request and no default "
        f"value provided. Inputs expected to be in the request {{{_joined(given)}}}, "
        f"or default input alias set: {_joined(defaults)}"
    )


def _outputs(signature: Any, output_filter: Any) -> dict[str, str]:
    """Graph names of the outputs to answer, by alias: those of the filter, or all."""
    wanted: dict[str, str] = {}
    for alias in output_filter:
        if alias not in signature.outputs:
            invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_joined(signature.outputs)}}}."
            )
        if alias in wanted:
            invalid(f"duplicate output tensor alias: {alias}")
        wanted[alias] = signature.outputs[alias].name
    return wanted or {alias: info.name for alias, info in sorted(signature.outputs.items())}


def _joined(names: Any) -> str:
    return ",".join(sorted(names))
