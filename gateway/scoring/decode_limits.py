"""What is refused before it is decoded, and what decoding and its child processes may take."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from gateway.deadline import Deadline
from gateway.errors import ImageTooLarge

RESIDENT_MOST = 96 * 1024 * 1024
"""A decode child that is larger than this between two pictures gives back what it can.

One that is larger still is replaced. After a JPEG of 12 megapixels it has 80 MiB.
"""

MESSAGE_BYTES = 16 * 1024
"""No message between a worker and its child is longer."""


@dataclass(frozen=True)
class ImageLimits:
    """How large a picture may be: as a file, and in pixels, width times height."""

    max_bytes: int
    max_pixels: int

    def check_file(self, data: bytes) -> None:
        """Go on only with a file that is small enough.

        Raises:
            ImageTooLarge: it has too many bytes.
        """
        if len(data) > self.max_bytes:
            raise ImageTooLarge(
                f"The picture has {len(data)} bytes, and at most {self.max_bytes} are read."
            )


class DecodeMemory(Protocol):
    """Memory that a decode holds while it runs."""

    def take(self, bytes_needed: int, deadline: Deadline) -> AbstractContextManager[None]:
        """Hold that many bytes for the block, having waited no longer than the deadline.

        Raises:
            ImageTooLarge: there is not as much in all.
            Overloaded: the deadline came first.
        """
