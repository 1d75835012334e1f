"""Which freed memory a worker keeps for the next picture, and which goes back to the system.

Touching fresh memory for the first time is a third of the time that decoding a picture of 12
megapixels takes (docs/decisions, decoding within memory). So Pillow keeps a few of its blocks
(PILLOW_BLOCKS_MAX, which `gateway/__main__.py` sets), and glibc keeps up to a few MiB for each
thread. By itself glibc would keep whatever a thread once freed: eight threads that each decoded 24
megapixels held 850 MB from then on, under a budget of 200.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)'s names for what follows."""

LARGE = 4 * 1024 * 1024
"""Bytes from which memory is taken from the system for one use, and goes back at once."""

KEPT = 8 * 1024 * 1024
"""Free bytes at the end of a thread's memory above which they go back."""


def keep_little() -> None:
    """Set both; nothing where the C library is not glibc. Once in each worker."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, KEPT)
