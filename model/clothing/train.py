"""Draws the pictures and trains the network: `python -m model.clothing.train`.

Writes the model, clothing.keras, and beside it clothing.json, which says how it was made and
how well it does on pictures drawn with patterns, backgrounds and poses it never saw.
"""

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.clothing.dataset import Answers, Pictures, Pixels, drawn, scaled
from model.clothing.pictures import LABELS, Split
from model.quiet import import_tensorflow

HERE = Path(__file__).parent
MODEL, METADATA = "clothing.keras", "clothing.json"
PACKAGES = ("tensorflow", "keras", "numpy", "pillow")


@dataclass(frozen=True)
class Plan:
    """How much is drawn and learned."""

    seed: int = 20
    training: int = 8000
    held_out: int = 1000
    epochs: int = 11
    batch: int = 32
    processes: int = os.cpu_count() or 1


@dataclass(frozen=True)
class Seconds:
    """How long the stages took by the clock, and what the processors worked for all of it.

    The clock depends on what else a machine does at the time; the work hardly does.
    """

    drawing: int
    training: int
    processors: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, train, measure, write."""
    parser = argparse.ArgumentParser(description="Train the clothing model on drawn pictures.")
    parser.add_argument("--output", type=Path, default=HERE, help="where the two files go")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--training", type=int, default=Plan.training, help="pictures to learn")
    parser.add_argument("--held-out", type=int, default=Plan.held_out, help="pictures to measure")
    parser.add_argument("--epochs", type=int, default=Plan.epochs)
    parser.add_argument("--batch", type=int, default=Plan.batch)
    parser.add_argument("--processes", type=int, default=Plan.processes, help="that draw")
    wanted = vars(parser.parse_args(arguments))
    output = wanted.pop("output")
    run(Plan(**wanted), output)


def run(plan: Plan, output: Path) -> None:
    """Carry out a plan and write clothing.keras and clothing.json below output."""
    started = time.monotonic()
    learned_from = _drawn("training", plan.training, plan)
    held_out = _drawn("held-out", plan.held_out, plan)
    drawn_at = time.monotonic()
    model = _trained(plan, learned_from)
    worked = round(sum(os.times()[:4]))
    seconds = Seconds(round(drawn_at - started), round(time.monotonic() - drawn_at), worked)
    output.mkdir(parents=True, exist_ok=True)
    model.save(output / MODEL)
    predicted = predictions(model, held_out.pixels)
    metadata = {
        **_facts(plan, seconds),
        "parameters": model.count_params(),
        "held_out_accuracy": _share(predicted == held_out.answers),
        "held_out_accuracy_by_label": by_label(predicted, held_out.answers),
        "sha256": hashlib.sha256((output / MODEL).read_bytes()).hexdigest(),
    }
    (output / METADATA).write_text(json.dumps(metadata, indent=2) + "\n")
    _say(f"held-out accuracy {metadata['held_out_accuracy']}; wrote {output / MODEL}")


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _drawn(split: Split, count: int, plan: Plan) -> Pictures:
    """The split's pictures, with a line of progress now and then."""

    def progress(done: int) -> None:
        if done % 500 == 0 or done == count:
            _say(f"{split}: {done} of {count} pictures drawn")

    return drawn(split, plan.seed, count, plan.processes, progress)


def _trained(plan: Plan, pictures: Pictures) -> Any:
    """A Keras model trained on the pictures, without the optimizer's state.

    TensorFlow is loaded here and not with the module, which every drawing process imports.
    """
    import_tensorflow()
    import keras  # noqa: PLC0415

    from model.clothing.batches import Batches, Report  # noqa: PLC0415
    from model.clothing.network import build  # noqa: PLC0415

    keras.utils.set_random_seed(plan.seed)
    learner = build(len(LABELS))
    batches = Batches(pictures, plan.batch, plan.seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-4, plan.epochs * len(batches), warmup_target=4e-3, warmup_steps=len(batches)
    )
    learner.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    learner.fit(batches, epochs=plan.epochs, verbose=0, callbacks=[Report(plan.epochs, _say)])
    model = build(len(LABELS))
    model.set_weights(learner.get_weights())
    return model


def predictions(model: Any, pixels: Pixels, batch: int = 50) -> Answers:
    """The place in LABELS of each picture's best score."""
    logits = [
        np.asarray(model(scaled(pixels[start : start + batch]), training=False))
        for start in range(0, len(pixels), batch)
    ]
    return np.asarray(np.concatenate(logits).argmax(axis=1))


def by_label(predicted: Answers, answers: Answers) -> dict[str, float]:
    """The share of each label's pictures that were named rightly."""
    places = ((label, answers == place) for place, label in enumerate(LABELS))
    return {label: _share(predicted[of] == answers[of]) for label, of in places if of.any()}


def _share(right: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    return round(float(right.mean()), 4)


def _facts(plan: Plan, seconds: Seconds) -> dict[str, Any]:
    """What the figures come from."""
    return {
        "seed": plan.seed,
        "pictures": {"training": plan.training, "held_out": plan.held_out},
        "epochs": plan.epochs,
        "batch": plan.batch,
        "seconds": dataclasses.asdict(seconds),
        "processors": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
    }


def _version(package: str) -> str:
    """A package's version; TensorFlow has another name where it comes without GPU support."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(f"{package}-cpu")


if __name__ == "__main__":
    main()
