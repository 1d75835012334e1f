"""Tiny models for TensorFlow whose scores prove which version got a tensor made in which way.

Score i of a gray picture is `offset + step · i + level`, the level as the model's own scaling makes
it; a tensor of another size makes the run fail. `python -m tests.support.gray_models DIRECTORY`, in
the model's environment, writes what `MODELS` lists.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class GrayModel:
    """One version of a model."""

    name: str
    version: int
    side: int
    scaling: str
    labels: tuple[str, ...]
    offset: float
    step: float

    def scores(self, level: int) -> dict[str, float]:
        """The scores, in order, of a picture of that gray level."""
        value = level / 127.5 - 1 if self.scaling == "tf" else float(level)
        scored = [self.offset + self.step * index + value for index in range(len(self.labels))]
        return dict(zip(self.labels, scored, strict=True))

    def contract(self) -> dict[str, Any]:
        preprocessing = {"height": self.side, "width": self.side, "scaling": self.scaling}
        return {"format": 1, "labels": list(self.labels), "preprocessing": preprocessing}


MODELS = (
    GrayModel("sized", 1, 16, "none", ("dress", "hat", "pants"), 0, 1000),
    GrayModel("sized", 2, 24, "tf", ("pants", "dress", "hat", "shoes"), 10000, 5),
    GrayModel("scaled", 1, 16, "none", ("dress", "hat", "pants"), 0, 1000),
    GrayModel("scaled", 2, 16, "tf", ("hat", "pants", "dress"), 10000, 5),
)


def write(model: GrayModel, directory: Path) -> None:
    """Write the version as a SavedModel with its contract."""
    import tensorflow as tf  # noqa: PLC0415 - only in the model's environment

    from model.contract import contract_text  # noqa: PLC0415
    from model.saved_model import add_contract  # noqa: PLC0415

    values = model.side * model.side * 3
    steps = [[model.offset + model.step * index for index in range(len(model.labels))]]
    module = tf.Module()
    module.steps = tf.Variable(steps, dtype=tf.float32)
    shape = [None, model.side, model.side, 3]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])  # type: ignore[untyped-decorator]
    def serve(image: Any) -> dict[str, Any]:
        level = tf.reduce_mean(tf.reshape(image, [-1, values]), axis=1, keepdims=True)
        return {"scores": level + module.steps}

    module.serve = serve
    tf.saved_model.save(module, str(directory), signatures={"serving_default": serve})
    add_contract(directory, contract_text(model.contract()))


if __name__ == "__main__":
    for listed in MODELS:
        place = Path(sys.argv[1]) / f"server-{listed.version}" / listed.name / str(listed.version)
        write(listed, place)
