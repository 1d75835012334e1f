"""Protocol Buffers' variable-length integers: one written, a packed run of them read by numpy."""

import numpy as np

LONGEST = 10
"""Bytes of a 64-bit integer at seven bits a byte."""


def encode_varint(number: int) -> bytes:
    """The bytes of a number that is not negative."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def decode_varints(run: bytes) -> np.ndarray:
    """The numbers of a packed run, their low 64 bits as uint64.

    Raises:
        ValueError: the run ends inside a number, or a number is longer than ten bytes.
    """
    octets = np.frombuffer(run, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if ends.size == octets.size:
        return octets.astype(np.uint64)
    if octets[-1] >= 0x80:
        raise ValueError("a packed number is cut off")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > LONGEST:
        raise ValueError("a packed number is longer than ten bytes")
    numbers = (octets[starts] & 0x7F).astype(np.uint64)
    for place in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > place)
        bits = (octets[starts[longer] + place] & 0x7F).astype(np.uint64)
        numbers[longer] |= bits << np.uint64(7 * place)
    return numbers
