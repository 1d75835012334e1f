"""TensorFlow Serving as scoring sees it, in memory: models whose scores prove the tensor they got.

Score i of a `FakeVersion` is `offset + i + mean of the tensor`, so that a picture of one gray level
has scores which say by which size, scaling and version they were made.
"""
# ruff: noqa: ARG002 - the methods are those of the client, arguments included

import json
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gateway.app import Parts, join_parts
from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import (
    GatewayError,
    ModelNotFound,
    ModelRejectedInput,
    OriginFailed,
    UndecodableImage,
)
from gateway.metrics import Metrics
from gateway.model_client.client import (
    Metadata,
    ModelSpec,
    Prediction,
    Signature,
    TensorSpec,
    VersionStatus,
)
from gateway.model_client.guards import Circuit, Guards
from gateway.scoring.contract import Preprocessing
from gateway.scoring.first_start import FirstStart
from gateway.settings import Settings

STRING = np.dtype(object)


@dataclass
class FakeVersion:
    """One version of a model: what its contract says and what it answers."""

    labels: Sequence[str] = ("dress", "hat", "pants")
    side: int = 4
    scaling: str = "none"
    offset: float = 0.0
    scores: str = "logits"
    dtype: Any = np.float32
    batch: int = -1
    largest_batch: int = 1000
    state: str = "AVAILABLE"
    contract: str | None = None
    carries_contract: bool = True
    outputs: np.ndarray | None = None

    def contract_text(self) -> str:
        if self.contract is not None:
            return self.contract
        preprocessing = {"height": self.side, "width": self.side, "scaling": self.scaling}
        document = {"format": 1, "labels": list(self.labels), "preprocessing": preprocessing}
        return json.dumps({**document, "scores": self.scores})

    def signatures(self) -> dict[str, Signature]:
        images = TensorSpec(np.dtype(np.float32), (self.batch, self.side, self.side, 3))
        scores = TensorSpec(np.dtype(self.dtype), (self.batch, len(self.labels)))
        method = "tensorflow/serving/predict"
        found = {"serving_default": Signature({"image": images}, {"scores": scores}, method)}
        if self.carries_contract:
            text = TensorSpec(STRING, (-1,))
            found["contract"] = Signature({"request": text}, {"contract": text}, method)
        return found

    def answer(self, tensor: np.ndarray) -> np.ndarray:
        fits = tensor.shape[1:] == (self.side, self.side, 3)
        if not fits or len(tensor) > self.largest_batch or self.batch not in (-1, len(tensor)):
            raise ModelRejectedInput(f"the shape {tensor.shape} does not fit")
        if self.outputs is not None:
            return self.outputs[: len(tensor)]
        means = tensor.astype(np.float64).mean(axis=(1, 2, 3))
        scores = self.offset + np.arange(len(self.labels)) + means[:, np.newaxis]
        return np.asarray(scores, self.dtype)


@dataclass
class FakeServing:
    """Servers behind one name: each a mapping of models to versions; each call goes to one."""

    servers: list[dict[str, dict[int, FakeVersion]]]
    labels: dict[str, int] = field(default_factory=dict)
    failure: GatewayError | None = None
    calls: list[tuple[str, ModelSpec]] = field(default_factory=list)
    predictions: list[tuple[ModelSpec, str, tuple[int, ...]]] = field(default_factory=list)
    guards: Guards = field(default_factory=Guards)
    turns: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311

    def predict(
        self,
        spec: ModelSpec,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        deadline: Deadline,
        output_names: Sequence[str] = (),
        *,
        cancelled: threading.Event | None = None,
    ) -> Prediction:
        version, model = self._find("predict", spec)
        if signature == "contract":
            text = np.array([model.contract_text().encode()], dtype=object)
            return Prediction(version, {"contract": text})
        self.predictions.append((spec, signature, inputs["image"].shape))
        return Prediction(version, {"scores": model.answer(inputs["image"])})

    def circuit(self, model: str) -> Circuit:
        return self.guards.circuit(model)

    def metadata(self, spec: ModelSpec, deadline: Deadline) -> Metadata:
        version, model = self._find("metadata", spec)
        return Metadata(version, model.signatures())

    def status(self, model: str, deadline: Deadline) -> tuple[VersionStatus, ...]:
        self.calls.append(("status", ModelSpec(model)))
        if self.failure is not None:
            raise self.failure
        versions = self._next_server().get(model)
        if versions is None:
            raise ModelNotFound(f"no {model}")
        return tuple(
            VersionStatus(number, versions[number].state, 0, "")
            for number in sorted(versions, reverse=True)
        )

    def _next_server(self) -> dict[str, dict[int, FakeVersion]]:
        return self.turns.choice(self.servers)

    def _find(self, call: str, spec: ModelSpec) -> tuple[int, FakeVersion]:
        """As the client does it: a version that is named is asked of every server."""
        self.calls.append((call, spec))
        if self.failure is not None:
            raise self.failure
        wanted = self.labels.get(spec.label) if spec.label else spec.version
        if spec.label and wanted is None:
            raise ModelNotFound(f"no {spec}")
        servers = [self._next_server()] if wanted is None else self.servers
        for server in servers:
            loaded = {
                number: version
                for number, version in server.get(spec.name, {}).items()
                if version.state == "AVAILABLE"
            }
            if loaded and (wanted is None or wanted in loaded):
                number = max(loaded) if wanted is None else wanted
                return number, loaded[number]
        raise ModelNotFound(f"no {spec}")


def gray(level: int) -> bytes:
    """A picture's bytes, for `decode_gray`."""
    return b"gray %d" % level


def decode_gray(
    data: bytes,
    preprocessing: Preprocessing,
    deadline: Deadline,
    cancelled: Cancellation | None = None,
) -> np.ndarray:
    """Pixels of the gray level that the bytes name."""
    if not data.startswith(b"gray "):
        raise UndecodableImage("This is no picture.")
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    return np.full(shape, int(data[5:]), np.uint8)


def fetch_gray(url: str, deadline: Deadline, cancelled: threading.Event | None = None) -> bytes:
    """The picture that the URL's last part names: https://pictures.example/200."""
    level = url.rpartition("/")[2]
    if level == "missing":
        raise OriginFailed("The picture's host answered 404.", origin_status=404)
    return gray(int(level)) if level.isdigit() else b"no picture"


def settings(**environment: str) -> Settings:
    return Settings.from_environment({"MODEL_WATCH_INTERVAL": "0.05", **environment})


def parts(
    serving: FakeServing, *, first_start: FirstStart | None = None, **environment: str
) -> Parts:
    """The application's parts on this fake, as the first of its workers has them."""
    chosen = settings(**environment)
    metrics = Metrics(chosen.models)
    first_start = first_start or FirstStart()
    return join_parts(chosen, metrics, serving, fetch_gray, decode_gray, first_start)


def one_server(**versions: FakeVersion) -> FakeServing:
    """One server with the clothing model: `one_server(v1=…, v2=…)`."""
    numbered = {int(name[1:]): version for name, version in versions.items()}
    return FakeServing([{"clothing-model": numbered}])


def contract_file(directory: Path, version: FakeVersion) -> Path:
    path = directory / "contract.json"
    path.write_text(version.contract_text())
    return path
