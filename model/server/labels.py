"""Labels that stand for versions."""

import threading
from typing import Any

from model.server.errors import failed_precondition, invalid
from model.server.states import AVAILABLE, StateBoard


class VersionLabels:
    """The labels of each model, set whole from the configuration."""

    def __init__(self, board: StateBoard, *, allow_unavailable: bool) -> None:
        self._board = board
        self._allow_unavailable = allow_unavailable
        self._lock = threading.Lock()
        self._labels: dict[str, dict[str, int]] = {}

    def version(self, model: str, label: str) -> int:
        """The version that a label stands for.

        Raises:
            ServingError: INVALID_ARGUMENT, the model has no such label.
        """
        with self._lock:
            version = self._labels.get(model, {}).get(label)
        if version is None:
            invalid(f"Unrecognized servable version label: {label}")
        return version

    def replace(self, models: Any) -> None:
        """Take the labels of these models instead of all known ones.

        Raises:
            ServingError: FAILED_PRECONDITION, a version is not available; no label changes then.
        """
        labels: dict[str, dict[str, int]] = {}
        for model in models:
            for label, version in model.version_labels.items():
                self._check(model.name, label, version)
                labels.setdefault(model.name, {})[label] = version
        with self._lock:
            self._labels = labels

    def _check(self, model: str, label: str, version: int) -> None:
        if self._allow_unavailable and self._unused_or_same(model, label, version):
            return
        state = self._board.versions(model).get(version)
        if state is None or state.state != AVAILABLE:
            failed_precondition(
                f"Request to assign label to version {version} of model {model}, "
                "which is not currently available for inference"
            )

    def _unused_or_same(self, model: str, label: str, version: int) -> bool:
        with self._lock:
            return self._labels.get(model, {}).get(label, version) == version
