"""Who is blocked for a caller hears that it hung up, whenever that happens."""

import threading
from functools import partial

from gateway.cancellation import Cancellation


def test_what_is_under_way_is_ended_once() -> None:
    cancelled = Cancellation()
    ended: list[str] = []
    first, second = (partial(ended.append, name) for name in ("first", "second"))
    with cancelled.ending(first), cancelled.ending(second):
        cancelled.set()
        assert ended == ["first", "second"]
        cancelled.set()
    assert ended == ["first", "second"]


def test_what_has_ended_by_itself_is_left_alone() -> None:
    cancelled = Cancellation()
    ended: list[str] = []
    with cancelled.ending(lambda: ended.append("done")):
        pass
    cancelled.set()
    assert not ended


def test_what_begins_too_late_is_ended_at_once() -> None:
    cancelled = Cancellation()
    ended: list[str] = []
    cancelled.set()
    with cancelled.ending(lambda: ended.append("late")):
        assert ended == ["late"]


def test_an_end_may_look_at_the_event_and_leave_another() -> None:
    """A lock held while strangers' functions run would stand still here."""
    cancelled = Cancellation()
    seen = []

    def end() -> None:
        with cancelled.ending(lambda: seen.append(cancelled.is_set())):
            pass

    with cancelled.ending(end):
        setting = threading.Thread(target=cancelled.set, daemon=True)
        setting.start()
        setting.join(timeout=5)
    assert seen == [True]


def test_what_is_left_is_let_go_once_when_the_request_ends() -> None:
    cancelled, done = Cancellation(), list[str]()
    cancelled.at_end(lambda: done.append("first"))
    cancelled.at_end(lambda: done.append("second"))
    cancelled.set()
    assert not done
    cancelled.end()
    cancelled.end()
    assert done == ["first", "second"]
    cancelled.at_end(lambda: done.append("late"))
    assert done == ["first", "second", "late"]
