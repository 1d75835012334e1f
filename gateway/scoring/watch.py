"""Which versions serve, looked at in the background, and whether the gateway may be asked.

Each worker process has its own watcher, started after the fork. `/readyz` and `/models` show what
it saw last; they make no call themselves.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.deadline import Deadline
from gateway.errors import GatewayError, ModelNotFound, ModelUnavailable
from gateway.model_client.client import ModelSpec, VersionStatus
from gateway.model_client.guards import State
from gateway.scoring.contract import ModelContract
from gateway.scoring.contracts import AVAILABLE, ContractStore, newest_available, nothing_loaded
from gateway.scoring.first_start import FirstStart
from gateway.scoring.parts import Model
from gateway.settings import Settings

_LOOK_TIMEOUT = 5.0
"""Seconds within which the server must say which versions it has."""

logger = logging.getLogger("tensorgate.models")

Probe = Callable[[ModelContract, Deadline], None]


@dataclass(frozen=True)
class ModelState:
    """What was last seen of a model.

    missing: why a prediction by its newest version would fail; empty when nothing is missing.
    """

    model: str
    missing: str
    versions: tuple[VersionStatus, ...] = ()
    current: int | None = None


@dataclass(frozen=True)
class Readiness:
    """Whether the gateway has ever had all its models, and what it lacks now, by model."""

    passed: bool
    missing: dict[str, str]


class ModelWatcher:
    """Looks at the models in a thread of its own.

    Args:
        settings: which models the gateway serves, the time between looks, and the time for a
            contract or for a blank picture's scores.
        model: the client of TensorFlow Serving.
        contracts: told what serves and what is gone.
        probe: has one version score a blank picture.
        first_start: shared with the other workers; a worker that starts after it has passed.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        contracts: ContractStore,
        probe: Probe,
        first_start: FirstStart,
    ) -> None:
        self._model = model
        self._contracts = contracts
        self._probe = probe
        self._interval = settings.model_watch_interval
        self._probe_timeout = settings.request_timeout
        self._states = {
            name: ModelState(name, "The gateway has just started and not looked yet.")
            for name in settings.models
        }
        self._probed: set[tuple[str, int]] = set()
        self._lost: set[str] = set()
        self._first_start = first_start
        self._passed = first_start.over
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-watch", daemon=True)

    def start(self) -> None:
        """Start looking; called in the worker, after the fork."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; does not wait for the look that is under way."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout)

    def states(self) -> tuple[ModelState, ...]:
        """What was last seen of each model, in the order of the settings."""
        return tuple(self._states.values())

    def readiness(self) -> Readiness:
        """Whether every model was once seen to predict, and what is missing now."""
        missing = {state.model: state.missing for state in self.states() if state.missing}
        return Readiness(self._passed, missing)

    def look(self) -> None:
        """Look at every model once."""
        for name in self._states:
            state = self._look_at(name)
            if state.missing != self._states[name].missing:
                logger.info("model %s: %s", name, state.missing or "serves")
            self._states[name] = state
        if not any(state.missing for state in self._states.values()):
            self._passed = True
            self._first_start.end()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.look()
            except Exception:
                logger.exception("looking at the models failed")
            self._stopped.wait(self._interval)

    def _look_at(self, name: str) -> ModelState:
        try:
            versions = self._model.status(name, Deadline.after(_LOOK_TIMEOUT))
        except GatewayError as error:
            return self._unseen(name, error)
        if name in self._lost:
            self._lost.discard(name)
            self._forget(name)
        self._contracts.forget_gone(name, versions)
        current = newest_available(versions)
        if current is None:
            return ModelState(name, nothing_loaded(name, versions), versions)
        self._contracts.believe(ModelSpec(name), current)
        return ModelState(name, self._check(name, versions, current), versions, current)

    def _unseen(self, name: str, error: GatewayError) -> ModelState:
        """The server cannot be asked. What it has once it is back may be something else."""
        if isinstance(error, ModelNotFound | ModelUnavailable):
            self._lost.add(name)
        return ModelState(name, error.message)

    def _forget(self, name: str) -> None:
        self._contracts.forget(name)
        self._probed = {key for key in self._probed if key[0] != name}

    def _check(self, name: str, versions: Sequence[VersionStatus], current: int) -> str:
        """Get every loaded version's contract; what the newest one lacks is missing."""
        missing = ""
        for version in [status.version for status in versions if status.state == AVAILABLE]:
            try:
                contract = self._contract(name, version)
                if version == current:
                    self._probe_once(contract)
            except GatewayError as error:
                missing = error.message if version == current else missing
        return missing

    def _contract(self, name: str, version: int) -> ModelContract:
        deadline = Deadline.after(self._probe_timeout)
        return self._contracts.contract_for(ModelSpec(name, version=version), deadline)

    def _probe_once(self, contract: ModelContract) -> None:
        """Again while the model's circuit is not closed, so that no caller need close it."""
        key = (contract.model, contract.version)
        closed = self._model.circuit(contract.model).state is State.CLOSED
        if key not in self._probed or not closed:
            self._probe(contract, Deadline.after(self._probe_timeout))
            self._probed.add(key)
