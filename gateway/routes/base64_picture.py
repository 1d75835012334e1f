"""Pictures inside JSON: base64 in either alphabet, or a data: URL of it."""

import binascii
import re

from gateway.errors import ImageTooLarge, InvalidRequest

_ALPHABETS = bytes.maketrans(b"-_", b"+/")
_DATA_URL = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)


def read_picture(text: str, max_bytes: int) -> bytes:
    """The file that the text encodes; padding and white space between characters are optional.

    Raises:
        InvalidRequest: it is not base64, or a data: URL of something else.
        ImageTooLarge: it encodes more than that many bytes.
    """
    encoded = _payload(text).translate(_ALPHABETS, b" \t\r\n").rstrip(b"=")
    if len(encoded) * 3 // 4 > max_bytes:
        raise ImageTooLarge(f"The picture in 'image' has more than {max_bytes} bytes.")
    try:
        return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4), strict_mode=True)
    except binascii.Error as error:
        raise InvalidRequest(
            "'image' is not base64: send the picture's file encoded in base64, or a data: URL."
        ) from error


def _payload(text: str) -> bytes:
    """The base64 of the text, without the head of a data: URL (RFC 2397)."""
    head = _DATA_URL.match(text)
    if head is not None:
        if not head[1].lower().endswith(";base64"):
            raise InvalidRequest(
                "The data: URL in 'image' must be in base64, as in data:image/jpeg;base64,/9j/4AAQ"
            )
        text = text[head.end() :]
    return text.encode("utf-8", "replace")
