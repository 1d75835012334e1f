"""Looks for the versions of the configured models, again and again."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from model.server.errors import ServingError
from model.server.versions import find_versions

log = logging.getLogger(__name__)


class VersionSource:
    """Tells which versions of each configured model are wanted now.

    Looks every `poll_seconds`; at 0 only when the configuration changes, below 0 never.
    """

    def __init__(self, want: Callable[[str, Mapping[int, str]], None], poll_seconds: float) -> None:
        self._want = want
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._models: Sequence[Any] = ()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="source", daemon=True)

    def start(self) -> None:
        """Begin to look again and again."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def watch(self, models: Sequence[Any]) -> None:
        """Look after these models from now on, at once for the first time; unload the others."""
        with self._lock:
            gone = {model.name for model in self._models} - {model.name for model in models}
            self._models = list(models)
            for name in gone:
                self._want(name, {})
            if self._poll_seconds >= 0:
                self._look()

    def _work(self) -> None:
        if self._poll_seconds <= 0:
            return
        while not self._stopping.wait(self._poll_seconds):
            with self._lock:
                self._look()

    def _look(self) -> None:
        for model in self._models:
            try:
                found = find_versions(model.name, model.base_path, model.model_version_policy)
            except (ServingError, tf.errors.OpError) as error:
                log.error(
                    "FileSystemStoragePathSource encountered a filesystem access error: %s",
                    error.message,
                )
                continue
            self._want(model.name, found)
