"""Starts and reloads wait until every version of each model has settled."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from model.server.errors import ServingError
from model.server.states import AVAILABLE, END, LOADING, START, StateBoard

SECONDS = 10.0
BROKEN = ServingError(grpc.StatusCode.DATA_LOSS, "broken")


def test_states_are_kept_newest_version_first() -> None:
    board = StateBoard()
    for version in (1, 10, 9):
        board.publish("hat", version, START)
    assert list(board.versions("hat")) == [10, 9, 1]
    assert board.versions("shoe") == {}


def test_the_wait_is_for_every_version_of_every_model() -> None:
    board = StateBoard()
    with board.watching() as watch, ThreadPoolExecutor(1) as waiters:
        for name, version in (("hat", 1), ("hat", 2), ("shoe", 1)):
            board.publish(name, version, LOADING)
        waiting = waiters.submit(board.wait_for, ["hat", "shoe"], watch, SECONDS)
        board.publish("hat", 2, AVAILABLE)
        board.publish("shoe", 1, AVAILABLE)
        assert not waiting.done()
        board.publish("hat", 1, AVAILABLE)
        assert waiting.result(SECONDS) == []


def test_a_version_that_failed_is_reported_beside_one_that_serves() -> None:
    board = StateBoard()
    with board.watching() as watch:
        board.publish("hat", 2, AVAILABLE)
        board.publish("hat", 1, END, BROKEN)
        [failure] = board.wait_for(["hat"], watch, SECONDS)
    assert str(failure) == "{{name: hat version: 1} due to error: DATA_LOSS: broken}, "


def test_what_ended_before_the_watch_does_not_count() -> None:
    board = StateBoard()
    board.publish("hat", 1, END, BROKEN)
    with board.watching() as watch:
        with pytest.raises(TimeoutError, match="hat"):
            board.wait_for(["hat"], watch, 0.01)
        board.publish("hat", 1, AVAILABLE)
        assert board.wait_for(["hat"], watch, SECONDS) == []


def test_a_version_that_is_wanted_no_more_is_no_failure_where_another_serves() -> None:
    board = StateBoard()
    with board.watching() as watch:
        board.publish("hat", 1, END)
        assert [failure.version for failure in board.wait_for(["hat"], watch, SECONDS)] == [1]
        board.publish("hat", 2, AVAILABLE)
        assert board.wait_for(["hat"], watch, SECONDS) == []
