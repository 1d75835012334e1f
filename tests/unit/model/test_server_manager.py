"""Versions are loaded and unloaded so that a model stays available."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc
import pytest

from model.server.errors import ServingError
from model.server.manager import PERIOD_SECONDS, LoadPolicy, Managed, ModelManager, Phase
from model.server.manager import next_action as choose
from model.server.servable import Servable
from model.server.states import StateBoard, VersionState
from tests.support.serving_reference import row

START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50


class FakeSession:
    """Notes that it was closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def run(self, *_arguments: object) -> list[object]:
        return []

    def close(self) -> None:
        self.closed.set()


@dataclass
class FakeLoader:
    """Loads at once, except for the versions in `failing`, and those held back by `held`."""

    failing: dict[int, list[ServingError]] = field(default_factory=dict)
    held: dict[int, threading.Event] = field(default_factory=dict)
    sessions: dict[int, FakeSession] = field(default_factory=dict)
    loads: list[int] = field(default_factory=list)

    def __call__(self, _name: str, version: int, _path: str) -> Servable:
        self.loads.append(version)
        if version in self.held:
            assert self.held[version].wait(10)
        if self.failing.get(version):
            raise self.failing[version].pop(0)
        self.sessions[version] = FakeSession()
        return Servable(version, {}, self.sessions[version])


@dataclass
class RecordingBoard(StateBoard):
    """Keeps every state in order."""

    history: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def publish(
        self, name: str, version: int, state: int, error: ServingError | None = None
    ) -> None:
        self.history.append((version, state))
        super().publish(name, version, state, error)


@dataclass
class Managing:
    """A running manager of one model, `hat`."""

    manager: ModelManager
    board: RecordingBoard
    loader: FakeLoader

    def want(self, *versions: int) -> None:
        self.manager.want("hat", {version: f"/hat/{version}" for version in versions})

    def wait(self, states: dict[int, int]) -> dict[int, VersionState]:
        self.wait_until(
            lambda: {v: s.state for v, s in self.board.versions("hat").items()} == states
        )
        return self.board.versions("hat")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"{self.board.versions('hat')}")


@pytest.fixture
def managing() -> Iterator[Managing]:
    loader, board = FakeLoader(), RecordingBoard()
    manager = ModelManager(loader, board, LoadPolicy(max_retries=1, retry_seconds=0.0))
    manager.start()
    yield Managing(manager, board, loader)
    manager.stop()


def failure(text: str = "broken") -> ServingError:
    return ServingError(grpc.StatusCode.DATA_LOSS, text)


def managed(version: int, phase: Phase, wanted: bool = True) -> Managed:
    return Managed("hat", version, f"/hat/{version}", phase, wanted)


NEW, READY, FAILED = Phase.NEW, Phase.READY, Phase.FAILED
IN_LOAD, OUT = Phase.LOADING, Phase.UNLOADING


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], None),
        ([managed(1, NEW), managed(2, NEW)], (IN_LOAD, 2)),
        ([managed(1, READY, False), managed(2, NEW)], (IN_LOAD, 2)),
        ([managed(1, READY, False), managed(2, IN_LOAD)], None),
        ([managed(1, READY, False), managed(2, READY)], (OUT, 1)),
        ([managed(1, READY, False), managed(2, FAILED)], None),
        ([managed(1, READY, False), managed(2, READY, False), managed(3, NEW)], (OUT, 1)),
        ([managed(1, READY, False)], (OUT, 1)),
        ([managed(1, OUT, False)], None),
    ],
)
def test_the_new_loads_before_the_old_goes(
    versions: list[Managed], expected: tuple[Phase, int] | None
) -> None:
    action = choose(versions)
    assert (action and (action[0], action[1].version)) == expected


def test_a_new_version_is_available_before_the_old_unloads(managing: Managing) -> None:
    assert row("config.load-before-unload")
    managing.want(1)
    managing.wait({1: AVAILABLE})
    managing.want(2)
    managing.wait({2: AVAILABLE, 1: END})
    history = managing.board.history
    assert history.index((2, AVAILABLE)) < history.index((1, UNLOADING))
    assert managing.loader.sessions[1].closed.is_set()
    assert [state for version, state in history if version == 1] == [
        START,
        LOADING,
        AVAILABLE,
        UNLOADING,
        END,
    ]


def test_a_failing_version_leaves_the_old_one_and_says_why(managing: Managing) -> None:
    managing.want(1)
    managing.wait({1: AVAILABLE})
    managing.loader.failing[2] = [failure(), failure("still broken")]
    managing.want(2)
    states = managing.wait({2: END, 1: AVAILABLE})
    assert str(states[2].error) == "DATA_LOSS: still broken"
    with managing.manager.servable("hat", None) as servable:
        assert servable.version == 1
    managing.want(3)
    managing.wait({3: AVAILABLE, 2: END, 1: END})


def test_a_load_is_tried_again_as_often_as_asked(managing: Managing) -> None:
    assert row("config.load-retry").more["default"] == [5, 60]
    assert LoadPolicy() == LoadPolicy(max_retries=5, retry_seconds=60.0)
    managing.loader.failing[1] = [failure()]
    managing.want(1)
    managing.wait({1: AVAILABLE})
    assert managing.loader.loads == [1, 1]


def test_an_error_that_is_not_the_runtimes_ends_the_version_too(
    managing: Managing, caplog: pytest.LogCaptureFixture
) -> None:
    managing.loader.failing[1] = [KeyError("x"), KeyError("x")]  # type: ignore[list-item]
    managing.want(1)
    assert str(managing.wait({1: END})[1].error).startswith("INTERNAL: The load failed:")


def test_a_version_stays_until_its_last_request_has_ended(managing: Managing) -> None:
    managing.want(1)
    managing.wait({1: AVAILABLE})
    with managing.manager.servable("hat", 1) as servable:
        managing.want(2)
        managing.wait({2: AVAILABLE, 1: UNLOADING})
        assert servable.version == 1
        assert not managing.loader.sessions[1].closed.is_set()
        with pytest.raises(ServingError), managing.manager.servable("hat", 1):
            pass
    managing.wait({2: AVAILABLE, 1: END})


def test_a_version_that_is_wanted_no_more_while_it_loads_is_dropped(managing: Managing) -> None:
    managing.loader.held[1] = threading.Event()
    managing.want(1)
    managing.wait({1: LOADING})
    managing.want()
    managing.loader.held[1].set()
    states = managing.wait({1: END})
    assert str(states[1].error) == "CANCELLED: Loading of servable cancelled"
    assert managing.loader.sessions[1].closed.is_set()


def test_the_wait_for_another_try_ends_when_the_version_is_not_wanted() -> None:
    loader, board = FakeLoader({1: [failure()]}), RecordingBoard()
    manager = ModelManager(loader, board, LoadPolicy(max_retries=5, retry_seconds=3600))
    manager.start()
    waiting = Managing(manager, board, loader)
    waiting.want(1)
    waiting.wait_until(lambda: not loader.failing[1])
    waiting.want()
    waiting.wait({1: END})
    manager.stop()


def test_the_newest_of_several_versions_answers(managing: Managing) -> None:
    managing.want(1, 2)
    managing.wait({2: AVAILABLE, 1: AVAILABLE})
    with managing.manager.servable("hat", None) as servable:
        assert servable.version == 2
    with managing.manager.servable("hat", 1) as servable:
        assert servable.version == 1


def test_a_version_can_come_back(managing: Managing) -> None:
    managing.want(1)
    managing.wait({1: AVAILABLE})
    managing.want()
    managing.wait({1: END})
    managing.want(1)
    managing.wait({1: AVAILABLE})
    assert managing.loader.loads == [1, 1]


def test_the_first_load_uses_more_threads(managing: Managing) -> None:
    assert row("config.initial-load-threads")
    held = managing.loader.held
    held.update({1: threading.Event(), 2: threading.Event()})
    with managing.manager.load_threads(8):
        managing.want(1, 2)
        managing.wait({2: LOADING, 1: LOADING})
        held[1].set()
        held[2].set()
        managing.wait({2: AVAILABLE, 1: AVAILABLE})
    held.update({3: threading.Event(), 4: threading.Event()})
    managing.want(3, 4)
    managing.wait_until(lambda: managing.loader.loads[2:] == [4])
    held[4].set()
    held[3].set()
    managing.wait_until(lambda: managing.loader.loads[2:] == [4, 3])


def test_the_manager_looks_every_100_ms() -> None:
    assert row("config.manager-period").more["default"] == PERIOD_SECONDS * 1000


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "model.server.manager")
