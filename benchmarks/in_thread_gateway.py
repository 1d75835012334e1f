"""The gateway with its pictures decoded in the worker's own threads: what children are held to.

`python -m benchmarks.in_thread_gateway` takes the gateway's settings. As the gateway did before it
had children, it keeps 4 of Pillow's blocks in each worker.
"""

import os
import sys

import numpy as np

os.environ.setdefault("PILLOW_BLOCKS_MAX", "4")  # before Pillow is imported

from gateway import __main__ as gateway
from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.scoring import decode_children, images
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.decode_limits import ImageLimits


class InThread:
    """In place of DecodeChildren."""

    def __init__(
        self, _most: int, limits: ImageLimits, budget: DecodeBudget, _metrics: object
    ) -> None:
        self._limits = limits
        self._budget = budget

    def start(self) -> None:
        """Start nothing."""

    def stop(self) -> None:
        """Stop nothing."""

    def decode(
        self,
        data: bytes,
        preprocessing: Preprocessing,
        deadline: Deadline,
        _cancelled: Cancellation | None = None,
    ) -> np.ndarray:
        """The picture's pixels."""
        return images.decode(data, preprocessing, self._limits, deadline, self._budget)


if __name__ == "__main__":
    decode_children.DecodeChildren = InThread  # type: ignore[assignment, misc]
    sys.exit(gateway.main())
