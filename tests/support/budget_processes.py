"""A parent that makes a decode budget and forks workers which hold parts of it, on command.

Run by test_budget.py in a process of its own: forking a process that has threads is not safe.
Commands come on stdin, one a line, and are answered by one line each.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack

from gateway.deadline import Deadline
from gateway.errors import GatewayError
from gateway.scoring.budget import DecodeBudget

PATIENCE = 30.0
KEPT = ExitStack()


def main() -> None:
    budget = DecodeBudget(int(sys.argv[1]))
    for line in sys.stdin:
        command, *arguments = line.split()
        numbers = [float(argument) for argument in arguments]
        print(COMMANDS[command](budget, *numbers), flush=True)


def hold(budget: DecodeBudget, held: float) -> str:
    """Fork a worker that holds that much until it is killed; answer with its pid."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with budget.take(int(held), Deadline.after(PATIENCE)):
            os.write(writer, b"!")
            signal.pause()
    os.close(writer)
    held_now = os.read(reader, 1)
    os.close(reader)
    return str(pid) if held_now else "the worker died"


def keep(budget: DecodeBudget, held: float) -> str:
    """Hold that much in this process, the parent, until it ends."""
    KEPT.enter_context(budget.take(int(held), Deadline.after(PATIENCE)))
    return "kept"


def queue(budget: DecodeBudget, wanted: float) -> str:
    """Fork a worker that waits for that much, and exits with 0 once it had it."""
    waiting = budget.waiting()
    pid = os.fork()
    if pid == 0:
        with budget.take(int(wanted), Deadline.after(PATIENCE)):
            os._exit(0)
    deadline = Deadline.after(PATIENCE)
    while budget.waiting() == waiting and not deadline.expired():
        pass
    return str(pid)


def take(budget: DecodeBudget, wanted: float, seconds: float) -> str:
    """Take that much in this process; answer "taken" or the error's slug."""
    try:
        with budget.take(int(wanted), Deadline.after(seconds)):
            return "taken"
    except GatewayError as error:
        return error.slug


def kill(budget: DecodeBudget, pid: float) -> str:
    """Kill a worker as the kernel would when memory runs out, and leave it unreaped."""
    os.kill(int(pid), signal.SIGKILL)
    os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOWAIT)
    return "killed"


def wait(budget: DecodeBudget, pid: float) -> str:
    """Answer with the exit status of a worker."""
    return str(os.waitpid(int(pid), 0)[1])


def in_use(budget: DecodeBudget) -> str:
    return str(budget.in_use())


COMMANDS: dict[str, Callable[..., str]] = {
    "hold": hold,
    "keep": keep,
    "queue": queue,
    "take": take,
    "kill": kill,
    "wait": wait,
    "in_use": in_use,
}

if __name__ == "__main__":
    main()
