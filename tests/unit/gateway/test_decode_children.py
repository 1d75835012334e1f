"""Decoding in child processes: real ones, killed, stopped, bounded, lied to."""

import ctypes
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gateway.cancellation import Cancellation
from gateway.deadline import Deadline
from gateway.errors import (
    CallerGone,
    DeadlineExceeded,
    DecoderDied,
    GatewayError,
    ImageTooLarge,
    Overloaded,
    UndecodableImage,
)
from gateway.scoring import decode_children, decode_process, images
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.decode_children import DecodeChildren
from gateway.scoring.decode_limits import RESIDENT_MOST, ImageLimits
from tests.support import odd_decode_children
from tests.support.child_processes import alive, children
from tests.support.hostile_pictures import jpeg_header_only, jpeg_of_many_scans
from tests.support.pictures import KINDS, saved
from tests.support.waiting import wait_until

LINUX = sys.platform == "linux"
MIB = 1024 * 1024
LIMITS = ImageLimits(max_bytes=20_000_000, max_pixels=25_000_000)
PLAIN = Preprocessing(height=16, width=16, scaling="none")
SMALL = {kind: encode(np.random.default_rng(0), (20, 15)) for kind, encode in KINDS.items()}
PNG = SMALL["png rgb"]
BUDGET = 300 * MIB


@pytest.fixture(scope="module")
def endless() -> bytes:
    """A JPEG whose 10,000 scans take many seconds."""
    return jpeg_of_many_scans(side=2000, scans=10_000)


def later() -> Deadline:
    return Deadline.after(60)


class Counted:
    """What children were counted."""

    def __init__(self) -> None:
        self.alive = 0
        self.ended: Counter[str] = Counter()

    def decode_children(self, alive: int) -> None:
        self.alive = alive

    def decode_child_ended(self, reason: str) -> None:
        self.ended[reason] += 1


class Running:
    """Children at work, with their budget and what was counted."""

    def __init__(self, most: int) -> None:
        self.budget = DecodeBudget(BUDGET)
        self.counted = Counted()
        self.children = DecodeChildren(most, LIMITS, self.budget, self.counted)
        self.threads = ThreadPoolExecutor(8)
        self.children.start()

    def decode(
        self,
        data: bytes = PNG,
        wanted: Preprocessing = PLAIN,
        deadline: Deadline | None = None,
        cancelled: Cancellation | None = None,
    ) -> np.ndarray:
        return self.children.decode(data, wanted, deadline or later(), cancelled)

    def idle(self) -> int:
        """The process id of a child that has no picture, once there is one."""
        wait_until(lambda: bool(self.children.pids()), what="an idle child")
        return self.children.pids()[-1]

    def begin(
        self, data: bytes, deadline: Deadline, cancelled: Cancellation | None = None
    ) -> "Future[np.ndarray]":
        """Decode in a thread; returns once a child is at it."""
        future = self.threads.submit(self.decode, data, PLAIN, deadline, cancelled)
        wait_until(lambda: future.done() or self.budget.in_use() > 0, what="decoding")
        return future

    def close(self) -> None:
        self.children.stop()
        self.threads.shutdown()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def make(most: int = 1) -> Running:
        started.append(Running(most))
        return started[-1]

    yield make
    for each in started:
        each.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """One child for many pictures, none of which may end it."""
    made = Running(1)
    yield made
    assert made.counted.ended == Counter(), "a picture ended a child"
    made.close()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


class TestDecoding:
    @pytest.mark.parametrize("kind", sorted(KINDS))
    @pytest.mark.parametrize(
        "wanted",
        [
            PLAIN,
            replace(PLAIN, color_mode="grayscale"),
            replace(PLAIN, transparency=(1, 2, 3), resampling="lanczos", exif_orientation=True),
        ],
        ids=["plain", "grayscale", "on a color"],
    )
    def test_a_child_gives_the_pixels_that_decoding_here_gives(
        self, running: Running, kind: str, wanted: Preprocessing
    ) -> None:
        expected = images.decode(SMALL[kind], wanted, LIMITS, later())

        pixels = running.decode(SMALL[kind], wanted)

        assert pixels.dtype == expected.dtype
        np.testing.assert_array_equal(pixels, expected)

    @pytest.mark.parametrize(
        "data",
        [b"", b"<html>", PNG[:-30], SMALL["webp"][:-30], jpeg_header_only(6000, 6000)],
        ids=["nothing", "no picture", "cut off", "cut off webp", "too many pixels"],
    )
    def test_what_is_wrong_with_a_picture_is_said_in_the_same_words(
        self, running: Running, data: bytes
    ) -> None:
        with pytest.raises(GatewayError) as here:
            images.decode(data, PLAIN, LIMITS, later())

        with pytest.raises(type(here.value)) as there:
            running.decode(data)

        assert there.value.message == here.value.message
        assert there.value.log_detail == here.value.log_detail

    def test_a_file_that_is_too_large_is_not_even_handed_over(self, running: Running) -> None:
        with pytest.raises(ImageTooLarge, match="bytes, and at most"):
            running.decode(bytes(LIMITS.max_bytes + 1))

    def test_memory_is_held_of_the_budget_while_a_child_decodes(
        self, start: Callable[..., Running], endless: bytes
    ) -> None:
        running = start()
        running.idle()
        decoding = running.begin(endless, Deadline.after(1.5))

        wait_until(lambda: running.budget.in_use() > 2000 * 2000 * 2, what="all that it needs")
        with pytest.raises(DeadlineExceeded):
            decoding.result()
        assert running.budget.in_use() == 0

    def test_a_picture_that_needs_more_than_the_budget_is_too_large(self, running: Running) -> None:
        webp = saved(Image.new("RGB", (5000, 5000)), "WEBP", lossless=True)

        with pytest.raises(ImageTooLarge, match="has 300 MiB"):
            running.decode(webp)

    def test_a_picture_without_memory_in_time_meets_an_overloaded_gateway(
        self, running: Running
    ) -> None:
        with running.budget.take(BUDGET, later()), pytest.raises(Overloaded):
            running.decode(deadline=Deadline.after(0.1))
        assert running.decode().shape == (16, 16, 3)

    def test_who_hangs_up_while_waiting_for_memory_waits_no_longer(self, running: Running) -> None:
        cancelled = Cancellation()
        with running.budget.take(BUDGET, later()):
            waiting = running.threads.submit(running.decode, PNG, PLAIN, later(), cancelled)
            wait_until(lambda: running.budget.waiting() == 1)
            cancelled.set()
            with pytest.raises(CallerGone):
                waiting.result(timeout=10)
        assert running.budget.waiting() == 0

    @pytest.mark.case("C19")
    def test_ten_thousand_scans_end_at_the_deadline(
        self, start: Callable[..., Running], endless: bytes
    ) -> None:
        running = start()
        running.idle()
        begun = time.monotonic()

        with pytest.raises(DeadlineExceeded):
            running.decode(endless, deadline=Deadline.after(0.5))

        assert time.monotonic() - begun < 1.5
        assert running.decode().shape == (16, 16, 3)


class TestKilled:
    def test_a_child_that_is_killed_costs_its_own_picture_and_no_other(
        self, start: Callable[..., Running], endless: bytes
    ) -> None:
        running = start()
        child = running.idle()
        decoding = running.begin(endless, later())
        others = [running.threads.submit(running.decode) for _ in range(3)]

        os.kill(child, signal.SIGKILL)

        with pytest.raises(DecoderDied) as error:
            decoding.result()
        assert "ended with -9" in error.value.log_detail
        assert str(child) not in error.value.message
        assert all(other.result().shape == (16, 16, 3) for other in others)
        assert running.counted.ended == {"died": 1}
        assert running.budget.in_use() == 0

    def test_a_child_that_is_stopped_is_killed_at_the_deadline(
        self, start: Callable[..., Running], endless: bytes
    ) -> None:
        running = start()
        child = running.idle()
        decoding = running.begin(endless, Deadline.after(1))
        os.kill(child, signal.SIGSTOP)

        with pytest.raises(DeadlineExceeded):
            decoding.result(timeout=10)

        assert gone(child)
        assert running.decode().shape == (16, 16, 3)
        assert running.counted.ended == {"deadline": 1}

    def test_webp_which_decodes_at_one_go_ends_at_the_deadline(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(decode_process, "DEADLINE_MARGIN", 0.0)
        running = start()
        noise = np.random.default_rng(0).integers(0, 256, (2400, 2400, 3), np.uint8)
        webp = saved(Image.fromarray(noise), "WEBP", lossless=True, quality=0, method=0)
        running.idle()
        begun = time.monotonic()
        images.decode(webp, PLAIN, LIMITS, later())
        alone = time.monotonic() - begun

        with pytest.raises(DeadlineExceeded):
            running.decode(webp, deadline=Deadline.after(alone / 2))

        assert running.counted.ended == {"deadline": 1}

    def test_a_caller_that_hangs_up_frees_its_child(
        self, start: Callable[..., Running], endless: bytes
    ) -> None:
        running = start()
        child = running.idle()
        cancelled = Cancellation()
        decoding = running.begin(endless, later(), cancelled)

        cancelled.set()

        with pytest.raises(CallerGone):
            decoding.result(timeout=10)
        assert gone(child)
        assert running.counted.ended == {"caller-gone": 1}

    def test_a_picture_that_is_nearly_done_when_its_caller_hangs_up_ends_no_child(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A new child costs more than the picture: hanging up must not get more work done."""
        monkeypatch.setattr(decode_process, "LOOK_SECONDS", 0.001)
        monkeypatch.setattr(decode_process, "HANG_UP_MARGIN", 30.0)
        data = KINDS["png rgb"](np.random.default_rng(0), (2000, 2000))
        running = start()
        child = running.idle()
        cancelled = Cancellation()
        cancelled.set()

        for _ in range(3):
            assert running.decode(data, cancelled=cancelled).shape == (16, 16, 3)

        assert running.idle() == child
        assert running.counted.ended == Counter()

    def test_a_child_that_died_while_it_had_no_picture_costs_none(
        self, start: Callable[..., Running]
    ) -> None:
        running = start()
        child = running.idle()
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: not alive(child))

        assert running.decode().shape == (16, 16, 3)

    def test_signals_to_stop_are_for_the_worker(self, start: Callable[..., Running]) -> None:
        running = start()
        child = running.idle()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            os.kill(child, number)

        assert running.decode().shape == (16, 16, 3)
        assert running.idle() == child
        assert os.getpgid(child) == child

    def test_who_waits_for_a_child_in_vain_meets_an_overloaded_gateway(
        self, start: Callable[..., Running], endless: bytes
    ) -> None:
        running = start()
        running.idle()
        cancelled = Cancellation()
        running.begin(endless, later(), cancelled)

        with pytest.raises(Overloaded) as error:
            running.decode(deadline=Deadline.after(0.2))
        assert error.value.retry_after == 1

        left = Cancellation()
        waiting = running.threads.submit(running.decode, PNG, PLAIN, later(), left)
        left.set()
        with pytest.raises(CallerGone):
            waiting.result(timeout=10)
        cancelled.set()

    def test_no_more_children_are_started_than_may_be(self, start: Callable[..., Running]) -> None:
        before = len(children("self"))
        running = start(most=2)
        data = KINDS["png rgb"](np.random.default_rng(0), (400, 400))
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                running.decode(data)

        workers = [running.threads.submit(work) for _ in range(6)]
        wait_until(lambda: running.counted.alive == 2, what="the second child")
        for _ in range(20):
            running.decode(data)
        assert running.counted.alive == 2
        assert len(children("self")) == before + 2
        stop.set()
        assert [worker.result() for worker in workers] == [None] * 6

    def test_once_stopped_none_is_left(self, start: Callable[..., Running]) -> None:
        before = children("self")
        running = start(most=3)
        running.idle()

        running.children.stop()

        assert children("self") == before


@pytest.mark.skipif(not LINUX, reason="only Linux bounds and tells a process's memory")
class TestMemory:
    def test_memory_that_runs_out_is_told_apart_from_a_broken_picture(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        odd_decode_children.use("tight", monkeypatch)
        running = start()
        child = running.idle()
        for kind in ("jpeg progressive 4:4:4", "webp", "png rgba", "jpeg 4:2:0", "gif"):
            data = KINDS[kind](np.random.default_rng(0), (3000, 3000))
            with pytest.raises(ImageTooLarge, match="too large to be decoded"):
                running.decode(data)
            with pytest.raises(UndecodableImage):
                running.decode(SMALL[kind][: len(SMALL[kind]) // 2])

        assert running.decode().shape == (16, 16, 3)
        assert running.idle() == child

    @pytest.mark.parametrize("kind", ["jpeg progressive 4:4:4", "jpeg progressive cmyk"])
    def test_libjpegs_lack_of_memory_is_seen_though_it_does_not_say_so(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        odd_decode_children.use("short", monkeypatch)
        running = start()

        with pytest.raises(ImageTooLarge, match="too large to be decoded") as error:
            running.decode(KINDS[kind](np.random.default_rng(0), (3000, 3000)))

        assert "broken data stream" in error.value.log_detail

    def test_a_broken_picture_is_not_called_large_for_what_failed_before(self) -> None:
        errno_of_this_thread = ctypes.PyDLL(None)["__errno_location"]
        errno_of_this_thread.restype = ctypes.POINTER(ctypes.c_int)
        errno_of_this_thread().contents.value = errno.ENOMEM

        with pytest.raises(UndecodableImage):
            images.decode(PNG[:-30], PLAIN, LIMITS, later())

    def test_a_child_that_keeps_much_memory_is_replaced(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        odd_decode_children.use("greedy", monkeypatch)
        running = start()
        child = running.idle()

        assert running.decode().shape == (16, 16, 3)

        wait_until(lambda: bool(running.children.pids()))
        assert gone(child)
        assert running.counted.ended == {"replaced": 1}

    def test_after_large_pictures_a_child_gives_its_memory_back(
        self, start: Callable[..., Running]
    ) -> None:
        running = start()
        child = running.idle()
        fresh = resident(child)
        large = KINDS["jpeg progressive 4:2:0"](np.random.default_rng(0), (4000, 3000))

        for _ in range(3):
            running.decode(large)
            assert resident(child) <= RESIDENT_MOST

        wait_until(lambda: resident(child) < fresh + 16 * MIB, what="memory given back")
        assert running.idle() == child

    def test_processor_time_ends_soon_after_the_deadline(
        self, start: Callable[..., Running]
    ) -> None:
        running = start()
        child = running.idle()
        for seconds in (50, 5):
            running.decode(deadline=Deadline.after(seconds))
            limits = Path(f"/proc/{child}/limits").read_text()
            found = re.search(r"Max cpu time +(\d+)", limits)
            assert found is not None
            assert seconds < int(found[1]) < seconds + 10

    def test_the_shared_file_keeps_no_large_picture(self, start: Callable[..., Running]) -> None:
        running = start()
        child = running.idle()
        running.decode(PNG + bytes(5_000_000))

        (file,) = (
            path
            for path in Path(f"/proc/{child}/fd").iterdir()
            if "memfd:picture" in os.readlink(path)
        )
        assert file.stat().st_size < MIB


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class TestNotTrusted:
    @pytest.mark.parametrize("lie", sorted(odd_decode_children.LYING))
    def test_a_child_that_says_what_is_not_so_is_ended(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, lie: str
    ) -> None:
        odd_decode_children.use(lie, monkeypatch)
        running = start()
        child = running.idle()

        with pytest.raises(DecoderDied):
            running.decode(SMALL["png 1-bit"])

        assert gone(child)
        assert running.counted.ended == {"died": 1}
        assert running.budget.in_use() == 0

    def test_a_decoder_that_crashes_is_one_failed_picture(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        odd_decode_children.use("crashing", monkeypatch)
        running = start()
        running.idle()

        for _ in range(2):
            with pytest.raises(DecoderDied, match="ended before it was done"):
                running.decode()

    def test_children_that_cannot_start_are_tried_again_and_callers_are_told(
        self,
        start: Callable[..., Running],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(decode_children, "START_AGAIN_SECONDS", 0.01)
        with monkeypatch.context() as context:
            odd_decode_children.use("unable", context)
            running = start()
            with pytest.raises(Overloaded):
                running.decode(deadline=Deadline.after(0.5))
            wait_until(lambda: "no decode child could be started" in caplog.text)

        assert running.decode().shape == (16, 16, 3)

    @pytest.mark.skipif(not LINUX, reason="/proc is Linux's")
    def test_a_child_holds_nothing_that_is_not_for_it(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("API_KEYS", "very-secret")
        with (Path(__file__)).open() as _ours:
            running = start()
            child = running.idle()
            running.decode()

            assert b"secret" not in Path(f"/proc/{child}/environ").read_bytes()
            opened = [os.readlink(path) for path in Path(f"/proc/{child}/fd").iterdir()]
        assert len(opened) <= 5
        assert not any(str(Path(__file__)) in name for name in opened)
        limits = Path(f"/proc/{child}/limits").read_text()
        assert re.search("Max core file size +0 ", limits)
        assert re.search("Max processes +0 ", limits)
        assert "NoNewPrivs:\t1" in Path(f"/proc/{child}/status").read_text()

    def test_a_child_imports_no_web_framework_and_no_grpc(self) -> None:
        program = "import gateway.scoring.decode_child, sys; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        roots = {name.partition(".")[0] for name in done.stdout.split()}
        assert {"PIL", "numpy"} <= roots
        assert roots & {"flask", "grpc", "google", "gunicorn", "prometheus_client"} == set()


READ_ONLY = """
for place in /tmp /dev/shm; do
  mount --bind $place $place && mount -o remount,bind,ro $place || exit
done
mount -o remount,bind,ro / && ! touch tests/written 2>/dev/null || exit
exec unshare --user --map-user=10001 --map-group=10001 "$0" -c "$1"
"""
DECODES = """
import os
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.decode_children import DecodeChildren
from gateway.scoring.decode_limits import ImageLimits
from tests.unit.gateway.test_decode_children import Counted, later, PLAIN, PNG

children = DecodeChildren(2, ImageLimits(10**8, 10**8), DecodeBudget(10**9), Counted())
children.start()
print(os.getuid(), children.decode(PNG, PLAIN, later()).shape, flush=True)
"""


def namespaces() -> bool:
    """Whether this user may have a root file system of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    asked = [unshare, "--user", "--map-root-user", "--mount", "true"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not LINUX or not namespaces(), reason="needs user and mount namespaces")
def test_children_work_where_nothing_can_be_written_and_nobody_is_root() -> None:
    """As in the pod: readOnlyRootFilesystem, user 10001; not even /tmp and /dev/shm are there."""
    outside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY]
    done = subprocess.run(
        [*outside, sys.executable, DECODES],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.stdout, done.stderr) == ("10001 (16, 16, 3)\n", "")


WORKER = """
import sys, threading
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.decode_children import DecodeChildren
from gateway.scoring.decode_limits import ImageLimits
from tests.unit.gateway.test_decode_children import Counted, later, PLAIN
from tests.support.hostile_pictures import jpeg_of_many_scans

children = DecodeChildren(2, ImageLimits(10**8, 10**8), DecodeBudget(10**9), Counted())
children.start()
endless = jpeg_of_many_scans(side=2000, scans=10_000)
decode = threading.Thread(target=children.decode, args=(endless, PLAIN, later()))
decode.start()
while not children._budget.in_use() or not children.pids():
    threading.Event().wait(0.01)
print("decoding", flush=True)
decode.join()
"""


@pytest.mark.skipif(not LINUX, reason="only Linux ends children with their parent")
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_worker_that_is_killed_leaves_no_child(stopped: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"decoding\n"
        begun = children(worker.pid)
        assert len(begun) == 2
        for child in begun:
            if stopped:
                os.kill(child, signal.SIGSTOP)

        worker.kill()

        wait_until(lambda: not any(alive(child) for child in begun), what="the children's end")
