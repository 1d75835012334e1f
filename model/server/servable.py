"""One version of a model, loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tensorflow_serving.apis import model_pb2

from model.server.session import Session

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Servable:
    """What a request needs of a version: its signatures and the session that runs them."""

    version: int
    signatures: Mapping[str, Any]
    session: Session


def signature_name(spec: Any) -> str:
    """The signature that a ModelSpec asks for."""
    return spec.signature_name or DEFAULT_SIGNATURE


def effective_spec(spec: Any, version: int) -> Any:
    """The ModelSpec of an answer: name, signature and the version that computed it."""
    answered = model_pb2.ModelSpec(name=spec.name, signature_name=signature_name(spec))
    answered.version.value = version
    return answered
