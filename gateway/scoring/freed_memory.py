"""Freed memory goes back to the system.

glibc keeps what a thread has freed for that thread's next allocations. Eight threads that each
decoded a picture of 24 megapixels once held 850 MB from then on, under a budget of 200.
"""

import ctypes
import functools
from typing import Any

WORTH_GIVING_BACK = 8 * 1024 * 1024
"""Bytes below which a thread may keep them: to give back costs a millisecond, to get it more."""


def give_back(freed: int) -> None:
    """Return free memory to the system after so many bytes were freed; nothing without glibc."""
    trim = _malloc_trim()
    if trim is not None and freed >= WORTH_GIVING_BACK:
        trim(0)


@functools.cache
def _malloc_trim() -> Any:
    """malloc_trim(3), or None where the C library has none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
