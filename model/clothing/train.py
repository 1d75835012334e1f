"""Draws the pictures and trains the network: `python -m model.clothing.train`.

Writes the model (clothing.keras) and, beside it, how it was made (clothing.json).
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.clothing.dataset import Answers, Pictures, Tensor, drawn, scaled
from model.clothing.pictures import LABELS

HERE = Path(__file__).parent
PACKAGES = ("keras", "numpy", "pillow")


@dataclass(frozen=True)
class Plan:
    """How much is drawn and learned."""

    seed: int
    training: int
    held_out: int
    epochs: int
    batch: int
    processes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, train, measure, write."""
    parser = argparse.ArgumentParser(description="Train the clothing model on drawn pictures.")
    parser.add_argument("--output", type=Path, default=HERE, help="where the two files go")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--training", type=int, default=6000, help="pictures to learn from")
    parser.add_argument("--held-out", type=int, default=1000, help="pictures to measure with")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    wanted = vars(parser.parse_args(arguments))
    output = wanted.pop("output")
    run(Plan(**wanted), output)


def run(plan: Plan, output: Path) -> None:
    """Carry out a plan and write clothing.keras and clothing.json below output."""
    started = time.monotonic()
    learned_from = _drawn("training", plan.training, plan)
    held_out = _drawn("held-out", plan.held_out, plan)
    drawing = time.monotonic() - started
    model = _trained(plan, learned_from)
    predicted = predictions(model, held_out.pixels)
    output.mkdir(parents=True, exist_ok=True)
    file = output / "clothing.keras"
    model.save(file)
    metadata = {
        "seed": plan.seed,
        "pictures": {"training": plan.training, "held_out": plan.held_out},
        "epochs": plan.epochs,
        "parameters": model.count_params(),
        "held_out_accuracy": round(float((predicted == held_out.answers).mean()), 4),
        "held_out_accuracy_by_label": by_label(predicted, held_out.answers),
        "seconds": {
            "drawing": round(drawing),
            "all": round(time.monotonic() - started),
        },
        "cores": os.cpu_count(),
        "versions": _versions(),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    (output / "clothing.json").write_text(json.dumps(metadata, indent=2) + "\n")
    _say(f"held-out accuracy {metadata['held_out_accuracy']}, {metadata['seconds']['all']} s")


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


def _drawn(split: Any, count: int, plan: Plan) -> Pictures:
    """The split's pictures, with a line of progress now and then."""

    def progress(done: int) -> None:
        if done % 1000 == 0 or done == count:
            _say(f"drawn {done} of {count} {split} pictures")

    return drawn(split, plan.seed, count, plan.processes, progress)


def _trained(plan: Plan, pictures: Pictures) -> Any:
    """A network trained on the pictures, without the optimizer's state."""
    import keras

    from model.clothing.batches import Batches, Report
    from model.clothing.network import build

    keras.utils.set_random_seed(plan.seed)
    model = build(len(LABELS))
    batches = Batches(pictures, plan.batch, plan.seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-4, plan.epochs * len(batches), warmup_target=4e-3, warmup_steps=len(batches)
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(batches, epochs=plan.epochs, verbose=0, callbacks=[Report(plan.epochs, _say)])
    trained = build(len(LABELS))
    trained.set_weights(model.get_weights())
    return trained


def predictions(model: Any, pixels: Any, batch: int = 50) -> Answers:
    """The index of the best label of each picture."""
    parts = [
        np.asarray(model(scaled(pixels[start : start + batch]), training=False))
        for start in range(0, len(pixels), batch)
    ]
    logits: Tensor = np.concatenate(parts)
    return logits.argmax(axis=1)


def by_label(predicted: Answers, answers: Answers) -> dict[str, float]:
    """The share of each label's pictures that were named rightly."""
    return {
        label: round(float((predicted[answers == place] == place).mean()), 4)
        for place, label in enumerate(LABELS)
        if (answers == place).any()
    }


def _versions() -> dict[str, str]:
    """What the figures depend on."""
    import tensorflow

    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "tensorflow": tensorflow.__version__, **versions}


if __name__ == "__main__":
    main()
