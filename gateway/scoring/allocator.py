"""Which freed memory the C library keeps for the next picture, and whether it was refused any.

Touching fresh memory for the first time is a third of the time that decoding a picture of 12
megapixels takes (docs/decisions, decoding in child processes). So a decode child keeps what a
picture has used until it has had nothing to do for a moment. A worker keeps a few MiB for each of
its threads, enough for a request's tensor and message; by itself glibc would keep next to nothing
or, after a large body, a multiple of that.
"""

import ctypes
import errno
from functools import cache
from typing import Any

MIB = 1024 * 1024

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)'s names: free bytes at the end of a thread's memory above which they go back, and the
size from which a block is taken from the system for one use."""


def keep_little() -> None:
    """In a worker: up to 8 MiB for each thread, in blocks below 4 MiB."""
    _keep(8 * MIB, 4 * MIB)


def keep_much() -> None:
    """In a decode child: as good as all, until it is given back.

    A C library that takes no more than 32 MiB for the size of blocks keeps its own.
    """
    _keep(512 * MIB, 512 * MIB)


def _keep(most: int, block: int) -> None:
    """Nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, block)
        mallopt(M_TRIM_THRESHOLD, most)


def give_back() -> None:
    """Give free memory back to the system."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def forget_failures() -> None:
    """Have `has_failed` speak of what comes from here on, in this thread."""
    number = _errno()
    if number is not None:
        number.value = 0


def has_failed() -> bool:
    """Whether the C library was last refused memory; never, where it cannot be asked.

    It is the only sign that libjpeg leaves: out of memory, it ends as it does with a broken
    picture. Whatever else failed since in the same thread would hide it, and a decoder that is
    refused memory does nothing else but give up.
    """
    number = _errno()
    return number is not None and number.value == errno.ENOMEM


def _errno() -> Any:
    """This thread's errno itself: ctypes.get_errno has a copy of its own."""
    locate = _errno_location()
    return locate().contents if locate is not None else None


@cache
def _errno_location() -> Any:
    locate = getattr(ctypes.PyDLL(None), "__errno_location", None)
    if locate is not None:
        locate.restype = ctypes.POINTER(ctypes.c_int)
    return locate
