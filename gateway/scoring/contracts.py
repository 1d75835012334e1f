"""The contract of each version of each model, asked for once and kept while the version serves.

What is kept cannot go stale: a version's contract never changes, because version numbers are never
used twice. What can go stale is which version serves; answers are compared with it (score.py), and
the watcher (watch.py) looks every `MODEL_WATCH_INTERVAL`.
"""

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gateway.deadline import Deadline
from gateway.errors import (
    ContractMismatch,
    DeadlineExceeded,
    ModelNotFound,
    ModelRejectedInput,
    ModelUnavailable,
)
from gateway.model_client.client import Metadata, ModelSpec, VersionStatus
from gateway.scoring.contract import ContractDocument, ModelContract, join, parse_contract
from gateway.scoring.parts import Model

CONTRACT_SIGNATURE = "contract"
AVAILABLE = "AVAILABLE"
_GONE = frozenset({"UNLOADING", "END"})

_NOT_A_CONTRACT = (
    "The signature 'contract' of version {0.version} of {0.name!r} must answer one string in its "
    "output 'contract' for one string in its input 'request'."
)

_Key = tuple[str, int]


class ContractStore:
    """Contracts by model and version, and the version believed to answer for each model.

    Args:
        model: the client of TensorFlow Serving.
        contract_files: for models that carry no contract, the file that holds it.
    """

    def __init__(self, model: Model, contract_files: Mapping[str, Path]) -> None:
        self._model = model
        self._contract_files = contract_files
        self._known: dict[_Key, ModelContract | ContractMismatch] = {}
        self._fetching: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()
        self._believed: dict[ModelSpec, int] = {}

    def contract_for(self, spec: ModelSpec, deadline: Deadline) -> ModelContract:
        """The contract of the version that the spec names, or of the one believed to answer it.

        Raises:
            ModelNotFound: the version or label that the spec names does not exist.
            ModelUnavailable: no version is loaded, or the server cannot be reached.
            ContractMismatch: the contract does not fit its signature; both sides are named.
        """
        if spec.version is not None:
            return self._of_version(spec.name, spec.version, deadline)
        version = self._believed.get(spec)
        if version is not None:
            try:
                return self._of_version(spec.name, version, deadline)
            except ModelNotFound:
                with self._lock:
                    self._believed.pop(spec, None)
        return self._of_asked(spec, deadline)

    def ask_version(self, spec: ModelSpec, deadline: Deadline) -> int:
        """Ask the server which version answers the spec now, and believe it.

        Raises:
            ModelNotFound: the label that the spec names does not exist.
            ModelUnavailable: no version is loaded, or the server cannot be reached.
        """
        if spec.version is not None:
            return spec.version
        if spec.label is not None:
            version = self._model.metadata(spec, deadline).version
        else:
            version = self._newest(spec.name, deadline)
        self.believe(spec, version)
        return version

    def believe(self, spec: ModelSpec, version: int) -> None:
        """Take it that calls of this spec are answered by this version."""
        if spec.version is None and self._believed.get(spec) != version:
            with self._lock:
                self._believed[spec] = version

    def known(self, model: str) -> dict[int, ModelContract | ContractMismatch]:
        """What is kept of the model, by version, newest first."""
        with self._lock:
            kept = {
                version: value for (name, version), value in self._known.items() if name == model
            }
        return dict(sorted(kept.items(), reverse=True))

    def forget_gone(self, model: str, versions: tuple[VersionStatus, ...]) -> None:
        """Drop what is kept of versions that no server has, or that are being unloaded."""
        serving = {status.version for status in versions if status.state not in _GONE}
        with self._lock:
            for key in [key for key in self._known if key[0] == model and key[1] not in serving]:
                del self._known[key]

    def forget(self, model: str) -> None:
        """Drop everything kept of the model: its server was away and may be another one now."""
        with self._lock:
            for key in [key for key in self._known if key[0] == model]:
                del self._known[key]
            for spec in [spec for spec in self._believed if spec.name == model]:
                del self._believed[spec]

    def _of_asked(self, spec: ModelSpec, deadline: Deadline) -> ModelContract:
        version = self.ask_version(spec, deadline)
        try:
            return self._of_version(spec.name, version, deadline)
        except ModelNotFound as error:
            raise ModelUnavailable(
                f"Version {version} of {spec.name!r} stopped serving just now; try again."
            ) from error

    def _newest(self, model: str, deadline: Deadline) -> int:
        try:
            versions = self._model.status(model, deadline)
        except ModelNotFound as error:
            raise ModelUnavailable(f"The model server has no model {model!r}.") from error
        version = newest_available(versions)
        if version is None:
            raise ModelUnavailable(nothing_loaded(model, versions))
        return version

    def _of_version(self, model: str, version: int, deadline: Deadline) -> ModelContract:
        key = (model, version)
        known = self._known.get(key)
        if known is None:
            known = self._fetch_once(key, deadline)
        if isinstance(known, ContractMismatch):
            raise ContractMismatch(known.message, log_detail=known.log_detail)
        return known

    def _fetch_once(self, key: _Key, deadline: Deadline) -> ModelContract | ContractMismatch:
        """Fetch it, or wait for the thread that does."""
        with self._lock:
            fetching = self._fetching.setdefault(key, threading.Lock())
        if not fetching.acquire(timeout=deadline.remaining()):
            raise DeadlineExceeded("The time ran out while the model's contract was asked for.")
        try:
            known = self._known.get(key)
            if known is None:
                known = self._fetch(*key, deadline)
                with self._lock:
                    self._known[key] = known
            return known
        finally:
            with self._lock:
                self._fetching.pop(key, None)
            fetching.release()

    def _fetch(
        self, model: str, version: int, deadline: Deadline
    ) -> ModelContract | ContractMismatch:
        spec = ModelSpec(model, version=version)
        metadata = self._model.metadata(spec, deadline)
        try:
            return join(model, metadata, self._document(spec, metadata, deadline))
        except ContractMismatch as error:
            return error

    def _document(
        self, spec: ModelSpec, metadata: Metadata, deadline: Deadline
    ) -> ContractDocument:
        """The version's own contract, or the one that the settings give the model."""
        if CONTRACT_SIGNATURE in metadata.signatures:
            return parse_contract(self._carried(spec, deadline))
        if spec.name in self._contract_files:
            return parse_contract(_read(self._contract_files[spec.name]))
        raise ContractMismatch(
            f"Version {spec.version} of {spec.name!r} carries no contract (it has no signature "
            f"{CONTRACT_SIGNATURE!r}), and CONTRACT_FILES names none for it."
        )

    def _carried(self, spec: ModelSpec, deadline: Deadline) -> bytes:
        inputs = {"request": np.array([b""], dtype=object)}
        try:
            answer = self._model.predict(spec, CONTRACT_SIGNATURE, inputs, deadline)
        except ModelRejectedInput as error:
            raise ContractMismatch(_NOT_A_CONTRACT.format(spec), log_detail=str(error)) from error
        texts = answer.outputs.get("contract")
        if texts is None or texts.size != 1 or not isinstance(texts.flat[0], bytes):
            raise ContractMismatch(_NOT_A_CONTRACT.format(spec))
        text: bytes = texts.flat[0]
        return text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ContractMismatch(
            "The model's contract file cannot be read.", log_detail=str(error)
        ) from error


def newest_available(versions: tuple[VersionStatus, ...]) -> int | None:
    """The version that answers calls that name none: the highest that is loaded."""
    return max((status.version for status in versions if status.state == AVAILABLE), default=None)


def nothing_loaded(model: str, versions: tuple[VersionStatus, ...]) -> str:
    """A sentence for callers that says in what state the model's versions are."""
    states = ", ".join(f"version {status.version} is {status.state}" for status in versions)
    return f"No version of {model!r} is loaded ({states or 'the server lists none'})."
