"""What scoring needs of the parts it is given, so that tests can give it small ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import CallerGone
from gateway.model_client.client import Metadata, ModelSpec, Prediction, VersionStatus
from gateway.model_client.guards import Circuit
from gateway.scoring.contract import Preprocessing
from gateway.scoring.stages import Stages


class Model(Protocol):
    """The calls of TensorFlow Serving that scoring makes."""

    def predict(
        self,
        spec: ModelSpec,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        deadline: Deadline,
        output_names: Sequence[str] = (),
        *,
        cancelled: Cancellation | None = None,
    ) -> Prediction:
        """Run one signature."""

    def circuit(self, model: str) -> Circuit:
        """What ends the model's predictions before they are made while nothing answers them."""

    def metadata(self, spec: ModelSpec, deadline: Deadline) -> Metadata:
        """The signatures of one version."""

    def status(self, model: str, deadline: Deadline) -> tuple[VersionStatus, ...]:
        """The state of each version."""


class Fetch(Protocol):
    """Brings the bytes behind a URL."""

    def __call__(
        self, url: str, deadline: Deadline, cancelled: Cancellation | None = None
    ) -> bytes:
        """The bytes, within the limits of the settings."""


class Decode(Protocol):
    """Makes pixels of a picture's bytes."""

    def __call__(
        self,
        data: bytes,
        preprocessing: Preprocessing,
        deadline: Deadline,
        cancelled: Cancellation | None = None,
    ) -> np.ndarray:
        """The pixels, uint8 (height, width, channels)."""


@dataclass(frozen=True)
class URL:
    """A picture to fetch."""

    text: str


Picture = URL | bytes
"""A picture to score: where it is, or the bytes of its file."""


@dataclass(frozen=True)
class Context:
    """What goes down with one request: its clock, whether its caller still waits, its stages."""

    deadline: Deadline
    cancelled: Cancellation = field(default_factory=Cancellation)
    stages: Stages = field(default_factory=Stages)

    def check(self, stage: str) -> None:
        """Go on only where there is time left and somebody waiting.

        Raises:
            DeadlineExceeded: the time is up.
            CallerGone: the caller hung up.
        """
        if self.cancelled.is_set():
            raise CallerGone(f"The caller hung up before its {stage}.")
        self.deadline.check(stage)
