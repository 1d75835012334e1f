"""The model contract: what a caller must know to use a model.

Names, dtypes and shapes come from the server (GetModelMetadata); labels and preprocessing from the
contract's JSON, whose form `model/contract.schema.json` defines and `contract_document.py` reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gateway.errors import ContractMismatch
from gateway.model_client.messages import Metadata, Signature, TensorSpec
from gateway.scoring.contract_document import (
    ContractDocument,
    Preprocessing,
    Resampling,
    Scaling,
    parse_contract,
)

__all__ = [
    "INPUT_DTYPES",
    "ContractDocument",
    "ModelContract",
    "Preprocessing",
    "Resampling",
    "Scaling",
    "join",
    "parse_contract",
]

INPUT_DTYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint8))
"""What a picture can be sent as."""


@dataclass(frozen=True)
class ModelContract:
    """One version's contract: the document joined with that version's signature.

    input_shape and output_shape are as the signature gives them, -1 for the batch.
    """

    model: str
    version: int
    document: ContractDocument
    input_name: str
    input_dtype: np.dtype
    input_shape: tuple[int, ...]
    output_name: str
    output_shape: tuple[int, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each score, in the output's order."""
        return self.document.labels

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the tensor."""
        return self.document.preprocessing

    def same_tensor(self, other: "ModelContract") -> bool:
        """Whether a picture becomes the same request under both: tensor, input and signature."""
        return self._request() == other._request()

    def same_answer(self, other: "ModelContract") -> bool:
        """Whether an answer to the same request reads the same under both, version aside."""
        return self.same_tensor(other) and self._reading() == other._reading()

    def _request(self) -> tuple[object, ...]:
        return (
            self.document.signature,
            self.input_name,
            self.input_dtype,
            self.input_shape,
            self.preprocessing,
        )

    def _reading(self) -> tuple[object, ...]:
        return self.labels, self.document.scores, self.output_name, self.output_shape


def join(model: str, metadata: Metadata, document: ContractDocument) -> ModelContract:
    """The contract of the version whose signatures these are.

    A rank that the signature leaves open is taken to be what the contract makes.

    Raises:
        ContractMismatch: they do not fit; the message names both sides.
    """
    where = f"version {metadata.version} of {model!r}"
    signature = _signature(metadata, document, where)
    input_name = _only(signature.inputs, document.input, "input", where)
    output_name = _only(signature.outputs, document.output, "output", where)
    return ModelContract(
        model=model,
        version=metadata.version,
        document=document,
        input_name=input_name,
        input_dtype=signature.inputs[input_name].dtype,
        input_shape=_input_shape(signature.inputs[input_name], input_name, document, where),
        output_name=output_name,
        output_shape=_output_shape(signature.outputs[output_name], output_name, document, where),
    )


def _signature(metadata: Metadata, document: ContractDocument, where: str) -> Signature:
    signature = metadata.signatures.get(document.signature)
    if signature is None:
        raise ContractMismatch(
            f"The contract of {where} names the signature {document.signature!r}, and the model "
            f"has {_names(metadata.signatures)}."
        )
    return signature


def _only(tensors: Mapping[str, TensorSpec], wanted: str | None, kind: str, where: str) -> str:
    """The tensor that the contract names, or the only one there is."""
    if wanted is not None and wanted not in tensors:
        raise ContractMismatch(
            f"The contract of {where} names the {kind} {wanted!r}, and its signature has "
            f"{_names(tensors)}."
        )
    if wanted is not None:
        return wanted
    if len(tensors) != 1:
        raise ContractMismatch(
            f"The signature of {where} has the {kind}s {_names(tensors)}, and its contract does "
            f'not say which one to use: name it as "{kind}".'
        )
    return next(iter(tensors))


def _input_shape(
    tensor: TensorSpec, name: str, document: ContractDocument, where: str
) -> tuple[int, ...]:
    preprocessing = document.preprocessing
    if tensor.dtype not in INPUT_DTYPES:
        raise ContractMismatch(
            f"The input {name!r} of {where} takes {tensor.dtype.name}, and pictures are sent as "
            "float32, float16 or uint8."
        )
    if tensor.dtype == np.uint8 and preprocessing.scaling != "none":
        raise ContractMismatch(
            f"The input {name!r} of {where} takes uint8, and the contract's scaling "
            f'{preprocessing.scaling!r} makes fractions: its scaling must be "none".'
        )
    made = (-1, preprocessing.height, preprocessing.width, preprocessing.channels)
    shape = made if tensor.shape is None else tensor.shape
    if not _fits(made, shape):
        raise ContractMismatch(
            f"The contract of {where} makes pictures of shape {list(made)}, and its input "
            f"{name!r} takes {list(shape)}."
        )
    return shape


def _output_shape(
    tensor: TensorSpec, name: str, document: ContractDocument, where: str
) -> tuple[int, ...]:
    if tensor.dtype.kind in "OSUbc":
        raise ContractMismatch(
            f"The output {name!r} of {where} holds {tensor.dtype.name}, and scores are numbers."
        )
    made = (-1, len(document.labels))
    shape = made if tensor.shape is None else tensor.shape
    if not _fits(made, shape):
        raise ContractMismatch(
            f"The contract of {where} has {len(document.labels)} labels, and its output {name!r} "
            f"has the shape {list(shape)}: it must be {list(made)}."
        )
    return shape


def _fits(made: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(made) == len(wanted) and all(
        there == -1 or here in (-1, there) for here, there in zip(made, wanted, strict=True)
    )


def _names(names: Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
