"""What a version directory holds: its signatures and its contract, and whether they fit."""

from pathlib import Path

from model import saved_model
from model.contract import Tensor, UnfitContract, check_fit, read_contract
from model.export import scoring_signature


def describe(directory: Path) -> str:
    """The directory's signatures and contract, for people.

    Raises:
        saved_model.NotASavedModel: the directory holds none.
    """
    content = saved_model.read(directory)
    lines = []
    for signature in saved_model.signatures(content).values():
        lines.append(f"signature {signature.name}")
        lines += [f"  input   {_tensor(tensor)}" for tensor in signature.inputs]
        lines += [f"  output  {_tensor(tensor)}" for tensor in signature.outputs]
    text = saved_model.carried_contract(content)
    lines.append("contract" if text else "no contract: the gateway needs one by CONTRACT_FILES")
    lines += [f"  {line}" for line in (text or "").splitlines()]
    return "\n".join(lines)


def check(directory: Path) -> None:
    """Check that the directory carries a contract that fits, the same in both places.

    Raises:
        saved_model.NotASavedModel: the directory holds none.
        UnfitContract: there is no contract, two different ones, or one that does not fit.
    """
    content = saved_model.read(directory)
    text = saved_model.carried_contract(content)
    if text is None:
        raise UnfitContract("the model has no signature `contract`: export it with `model export`")
    document = read_contract(text)
    check_fit(document, scoring_signature(document, saved_model.signatures(content)))
    path = directory / saved_model.CONTRACT_FILE
    if not path.is_file() or path.read_text() != text:
        raise UnfitContract(f"{path} is not the contract that the model carries")


def _tensor(tensor: Tensor) -> str:
    shape = "unknown" if tensor.shape is None else str(list(tensor.shape))
    return f"{tensor.name}  {tensor.dtype}  {shape}"
