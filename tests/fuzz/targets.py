"""What is fed with bytes that nobody wrote, and what must hold of each: `make fuzz TARGET=url`.

A target returns when the bytes were read or refused as they should be. Anything else is a mistake:
another exception, a warning, a crash, too much memory or time.
"""

import socket
import urllib.parse
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from gateway.audit import LONGEST_URL, plain_url
from gateway.deadline import Deadline
from gateway.errors import ImageTooLarge, InvalidURL, ModelFailed, UndecodableImage, URLNotAllowed
from gateway.model_client import messages, tensors
from gateway.model_client.protos import tensor_pb2
from gateway.scoring.contract_document import Preprocessing
from gateway.scoring.fetch import url as urls
from gateway.scoring.fetch.addresses import FetchPolicy
from gateway.scoring.images import ImageLimits, decode

POLICY = FetchPolicy(frozenset({80, 443, 8080}))
LIMITS = ImageLimits(max_bytes=100_000, max_pixels=250_000)
WANTED = (
    Preprocessing(height=8, width=8, scaling="none"),
    Preprocessing(
        height=8,
        width=8,
        scaling="none",
        resampling="bicubic",
        transparency=(255, 255, 255),
        exif_orientation=True,
        sixteen_bit="scale",
    ),
)


def read_picture(data: bytes) -> None:
    """Pixels of the size asked for, or a refusal, under both sorts of contract."""
    for wanted in WANTED:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                pixels = decode(data, wanted, LIMITS, Deadline.after(10))
            except (UndecodableImage, ImageTooLarge):
                continue
        assert pixels.shape == (8, 8, 3)
        assert pixels.dtype == np.uint8


def read_url(data: bytes) -> None:
    """A URL in which every other reader sees the same host, or a refusal."""
    text = data.decode("utf-8", "surrogateescape")
    first, _, location = text.partition("\n")
    try:
        parsed = urls.parse(first, POLICY)
        check_url(parsed)
        check_url(urls.join(parsed, location, POLICY))
    except (InvalidURL, URLNotAllowed):
        return
    finally:
        assert len(plain_url(first)) <= LONGEST_URL


def check_url(parsed: urls.PictureURL) -> None:
    """Read again it is the same, the standard library reads it alike, and no number hides in it."""
    text = str(parsed)
    assert urls.parse(text, POLICY) == parsed
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
    other = urllib.parse.urlsplit(text)
    assert other.hostname == parsed.host
    assert (other.port or urls.DEFAULT_PORTS[parsed.scheme]) == parsed.port
    assert (other.username, other.password, other.fragment) == (None, None, "")
    if parsed.address is None:
        assert not is_number(parsed.host)


def is_number(host: str) -> bool:
    """Whether the C library takes it for an IPv4 address, in any of the old forms."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def read_tensor(data: bytes) -> None:
    """A model server's answer, sound or refused; a tensor that is written is read back."""
    for read in (messages.read_prediction, messages.read_metadata, messages.read_status):
        try:
            answer = read(data)
        except ModelFailed:
            continue
        if isinstance(answer, messages.Prediction):
            check_arrays(answer)


def check_arrays(answer: messages.Prediction) -> None:
    assert sum(each.nbytes for each in answer.outputs.values()) <= tensors.MAX_DECODED_BYTES
    for array in answer.outputs.values():
        if array.size < 1000:
            written = b"".join(tensors.serialize_tensor(array))
            again = tensors.parse_tensor(tensor_pb2.Tensor.FromString(written))
            np.testing.assert_array_equal(again, array)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "decode": read_picture,
    "url": read_url,
    "tensor": read_tensor,
}
