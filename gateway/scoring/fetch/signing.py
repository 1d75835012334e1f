"""URLs that somebody vouches for: once there are keys, only signed URLs are fetched.

A signature stands in the URL's fragment, which is never sent to a host:
`https://pictures.example/a.jpg#signature=<64 hexadecimal digits>`. It is the HMAC-SHA256 (RFC 2104)
of all that stands before the `#`, in UTF-8, as it is written.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence

from gateway.settings import Secret

_SIGNATURE = re.compile(r"signature=([0-9a-f]{64})")


def is_signed(url: str, keys: Sequence[Secret]) -> bool:
    """Whether one of the keys signed the URL; the time taken does not tell how nearly."""
    signed, _, fragment = url.partition("#")
    match = _SIGNATURE.fullmatch(fragment)
    if match is None:
        return False
    message = signed.encode("utf-8", "surrogatepass")
    given = bytes.fromhex(match[1])
    return any(
        hmac.compare_digest(hmac.digest(key.value, message, hashlib.sha256), given) for key in keys
    )
