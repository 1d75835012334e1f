"""Loads one version whole: SavedModel, batching, warm-up."""

import time
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from model.server import config, loader, warmup
from model.server.batching import BatchingSession, BatchScheduler
from model.server.batching_parameters import BatchingOptions, batching_options
from model.server.messages import new_message
from model.server.predict import PredictOptions
from model.server.recorder import Recorder
from model.server.servable import Servable
from model.server.session import Session

PARAMETERS_FILE = "batching_params.pbtxt"
METADATA_KEY_FILE = "assets.extra/mlmd_uuid"


@dataclass(frozen=True)
class Batching:
    """The threads that all models share, and the options of those without their own."""

    scheduler: BatchScheduler
    options: BatchingOptions
    per_model: bool = False


@dataclass(frozen=True)
class LoadOptions:
    """The flags that change how a version is loaded."""

    tags: tuple[str, ...] = ("serve",)
    session_config: Any = None
    batching: Batching | None = None
    warm_up: bool = True
    warm_up_iterations: int = 0
    predict: PredictOptions = field(default_factory=PredictOptions)


class VersionLoader:
    """What the manager calls to load."""

    def __init__(self, options: LoadOptions, recorder: Recorder) -> None:
        self._options = options
        self._recorder = recorder

    def __call__(self, name: str, version: int, path: str) -> Servable:
        """Load a version and run its warm-up requests.

        Raises:
            ServingError: the model or one of its warm-up requests failed.
        """
        bundle = self._load(path)
        session: Session = bundle.session
        try:
            session = self._batched(session, path)
            servable = Servable(version, bundle.signatures, session)
            if self._options.warm_up:
                iterations, predict = self._options.warm_up_iterations, self._options.predict
                warmup.warm_up(servable, path, iterations, predict, self._recorder)
        except BaseException:
            session.close()
            raise
        if tf.io.gfile.exists(f"{path}/{METADATA_KEY_FILE}"):
            self._recorder.publish_metadata_key(name, version)
        return servable

    def _load(self, path: str) -> loader.Bundle:
        start, status = time.monotonic(), "fail"
        try:
            bundle = loader.load(path, self._options.tags, self._options.session_config)
            status = "success"
            return bundle
        finally:
            self._recorder.observe_load(path, status, time.monotonic() - start)

    def _batched(self, session: Session, path: str) -> Session:
        batching = self._options.batching
        if batching is None:
            return session
        options: BatchingOptions | None = batching.options
        if batching.per_model:
            options = _own_options(path)
        if options is None:
            return session
        return BatchingSession(session, batching.scheduler, options, self._recorder)


def _own_options(path: str) -> BatchingOptions | None:
    """The options in the version's directory, if it has any; without them it is not batched."""
    file = f"{path}/{PARAMETERS_FILE}"
    if not tf.io.gfile.exists(file):
        return None
    with tf.io.gfile.GFile(file, "r") as opened:
        text = opened.read()
    parameters = config.parse_text_proto(text, new_message("BatchingParameters"), file)
    return batching_options(parameters)
