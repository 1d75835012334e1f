"""Drives a steady load of POST requests and tells which of them were lost.

All times are seconds of `time.monotonic`, so a test can set them beside its own.
"""

import asyncio
import collections
import contextlib
import itertools
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from tests.support.load_client import Answer, Client, Request
from tests.support.waiting import wait_until

LATE_SECONDS = 0.1
"""A request that starts this much after its turn is counted as late."""
EXAMPLES = 5
ENOUGH = 2000
"""Requests below which a load proves nothing."""


@dataclass(frozen=True)
class Report:
    """What a load has shown.

    requests: those that have ended.
    lost: how many by failure; `examples` are the first few.
    rate: requests started a second; `asked_rate` is what was wanted.
    capacity: the requests a second that the caller says the target can do, if it knows.
    cpu: the generator's own share of a core.
    """

    requests: int
    lost: dict[str, int]
    examples: tuple[Answer, ...]
    began: float
    clients: int
    deadline: float
    asked_rate: float
    rate: float
    late: int
    p50: float
    p99: float
    longest: float
    capacity: float | None
    cpu: float

    def check(self, minimum: int = ENOUGH) -> None:
        """A load of too few requests proves nothing.

        Raises:
            AssertionError: fewer than the minimum have ended.
        """
        wanted = f"a load does not count under {minimum:,} requests"
        assert self.requests >= minimum, f"{wanted}, and this was: {self}"

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.lost.items())
        lost = f"{sum(self.lost.values()):,} lost" + (f" ({kinds})" if kinds else "")
        share = f", {self.rate / self.capacity:.0%} of capacity" if self.capacity else ""
        milliseconds = [f"{1000 * value:.0f} ms" for value in (self.p50, self.p99, self.longest)]
        line = (
            f"{self.requests:,} requests, {lost}; {self.clients} clients, deadline "
            f"{self.deadline:g} s; {self.rate:.1f}/s of {self.asked_rate:.1f} asked{share}, "
            f"{self.late} late; p50 {milliseconds[0]}, p99 {milliseconds[1]}, max "
            f"{milliseconds[2]}; generator {self.cpu:.0%} of a core"
        )
        told = [f"  at {answer.started - self.began:.2f} s: {answer}" for answer in self.examples]
        return "\n".join([line, *told])


class Load:
    """Requests at a steady rate, from a thread of its own, while a `with` block runs.

    Turns are evenly spaced, whatever becomes of earlier requests. A turn takes a client that is
    free, or a new one while there are fewer than `clients`; when all are busy it waits and starts
    late. After each request a client pauses 0 to `pause` seconds, drawn evenly from the seed. Every
    other client keeps its connection; the others open one for each request. A rate needs about
    rate * (pause / 2 + the seconds of an answer) clients. Leaving the block starts no more requests
    and waits for those under way, as long as their deadline.
    """

    def __init__(
        self,
        request: Request,
        rate: float,
        *,
        clients: int = 1000,
        pause: float = 5.0,
        seed: int = 0,
        capacity: float | None = None,
    ) -> None:
        self.answers: list[Answer] = []
        """Those that have ended so far, in the order in which they did."""
        self._request = request
        self._rate = rate
        self._most = clients
        self._pause = pause
        self._random = random.Random(seed)  # noqa: S311 - nothing secret
        self._capacity = capacity
        self._made: list[Client] = []
        self._free: asyncio.Queue[Client] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._thread = ThreadPoolExecutor(1, "load")
        self._running: Future[None]
        self._began = 0.0
        self._seconds = 0.0
        self._started = 0
        self._cpu = 0.0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._began = time.monotonic()
        self._running = self._thread.submit(self._loop.run_until_complete, self._run())
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.shutdown()
        self._loop.close()
        self._running.result()

    def wait_for(self, requests: int, seconds: float = 120.0) -> None:
        """Wait until so many requests have ended, lost ones with them.

        Raises:
            AssertionError: they have not in these seconds.
        """
        wait_until(lambda: self._ended() >= requests, seconds, f"the end of {requests} requests")

    def report(self) -> Report:
        """What it has shown so far."""
        answers = tuple(self.answers)
        lost = [answer for answer in answers if answer.failure]
        times = sorted(answer.seconds for answer in answers if not answer.failure) or [0.0]
        seconds = self._seconds or time.monotonic() - self._began
        return Report(
            requests=len(answers),
            lost=dict(collections.Counter(answer.failure for answer in lost)),
            examples=tuple(lost[:EXAMPLES]),
            began=self._began,
            clients=len(self._made),
            deadline=self._request.deadline,
            asked_rate=self._rate,
            rate=self._started / seconds,
            late=sum(answer.started - answer.due > LATE_SECONDS for answer in answers),
            p50=times[len(times) // 2],
            p99=times[len(times) * 99 // 100],
            longest=times[-1],
            capacity=self._capacity,
            cpu=self._cpu / seconds,
        )

    def _ended(self) -> int:
        if self._running.done():
            self._running.result()
        return len(self.answers)

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as requests:
                turns = requests.create_task(self._take_turns(requests))
                await self._stop.wait()
                turns.cancel()
                self._seconds = time.monotonic() - self._began
        finally:
            for client in self._made:
                client.close()

    async def _take_turns(self, requests: asyncio.TaskGroup) -> None:
        for turn in itertools.count():
            due = self._began + turn / self._rate
            await asyncio.sleep(due - time.monotonic())
            client = await self._client()
            requests.create_task(self._ask(client, due))
            self._started += 1
            self._cpu = time.thread_time()

    async def _client(self) -> Client:
        if self._free.empty() and len(self._made) < self._most:
            number = len(self._made)
            self._made.append(Client(number, self._request, keeps=number % 2 == 0))
            return self._made[-1]
        return await self._free.get()

    async def _ask(self, client: Client, due: float) -> None:
        self.answers.append(await client.ask(due))
        pause = self._random.uniform(0, self._pause)
        asyncio.get_running_loop().call_later(pause, self._free.put_nowait, client)


def measure_capacity(request: Request, clients: int = 8, seconds: float = 5.0) -> float:
    """How many requests a second so many clients get answered, each asking without a pause.

    Raises:
        AssertionError: a request was lost, so it is more than the capacity.
    """
    began = time.monotonic()
    answers: list[Answer] = []

    async def ask_on(number: int) -> None:
        with contextlib.closing(Client(number, request, keeps=True)) as client:
            while time.monotonic() < began + seconds:
                answers.append(await client.ask())
                assert not answers[-1].failure, f"lost while measuring: {answers[-1]}"

    async def ask_all() -> None:
        await asyncio.gather(*(ask_on(number) for number in range(clients)))

    asyncio.run(ask_all())
    return len(answers) / (time.monotonic() - began)
