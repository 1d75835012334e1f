"""What a gateway's processes hold: memory, descriptors and threads, as Linux counts them."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
LINUX = (PROCESSES / "self" / "status").exists()


@dataclass(frozen=True)
class Footprint:
    """Added up over a process and all below it; memory is resident, in bytes."""

    processes: int
    memory: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.processes} processes, {self.memory / 2**20:.0f} MiB, "
            f"{self.descriptors} descriptors, {self.threads} threads"
        )


def footprint(process: int) -> Footprint:
    """Of this process and all below it."""
    memory = descriptors = threads = 0
    family = descendants(process)
    for each in family:
        memory += _status(each, "VmRSS") * 1024
        threads += _status(each, "Threads")
        descriptors += len(list((PROCESSES / str(each) / "fd").iterdir()))
    return Footprint(len(family), memory, descriptors, threads)


def most_memory(process: int) -> int:
    """Bytes that this process and those below it have had resident at most, each by itself."""
    return sum(_status(each, "VmHWM") * 1024 for each in descendants(process))


def descendants(process: int) -> list[int]:
    """This process and all below it."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in (PROCESSES / str(process) / "task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return [process, *(each for child in children for each in descendants(child))]


def _status(process: int, name: str) -> int:
    text = (PROCESSES / str(process) / "status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0])
