"""Whom a request may be addressed to, how large its body may be, and how much may be in flight.

All of it is asked when a request's head is complete and before its body is read. A worker's counts
belong to its event loop and are touched by no other thread.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.server import refusals
from gateway.server.head import Head
from gateway.settings import MIB, Settings

OPERATIONS = frozenset({"/healthz", "/readyz"})
"""Paths with places and a thread of their own: a probe must not fail because we are busy."""
OPERATIONS_PLACES = 16
SMALL_BODY = 64 * 1024
"""Bytes of a body that every connection may hold without asking the worker's upload memory."""
JSON_SLACK = 64 * 1024
"""What may stand around a picture in a JSON body."""
MULTIPART_MOST = 64 * MIB
"""The most for one multipart body, however many pictures are allowed."""


@dataclass(frozen=True)
class BodyLimits:
    """Bytes of a body by its content type."""

    json: int
    image: int
    multipart: int
    other: int

    @classmethod
    def from_settings(cls, settings: Settings) -> "BodyLimits":
        """A JSON body may hold a picture in base64, so its limit here is the larger one."""
        picture = settings.max_image_bytes
        encoded = 4 * ((picture + 2) // 3) + JSON_SLACK
        parts = settings.max_images * picture + JSON_SLACK
        return cls(
            json=max(settings.max_json_bytes, encoded),
            image=picture,
            multipart=max(picture + JSON_SLACK, min(parts, MULTIPART_MOST)),
            other=settings.max_json_bytes,
        )

    def limit(self, content_type: str) -> int:
        """The limit for a media type."""
        if content_type == "application/json" or content_type.endswith("+json"):
            return self.json
        if content_type.startswith("image/") or content_type == "application/octet-stream":
            return self.image
        if content_type == "multipart/form-data":
            return self.multipart
        return self.other


class Places:
    """How many may be in flight; `changed` is told each new number."""

    def __init__(self, most: int, changed: Callable[[int], object] = lambda _taken: None) -> None:
        self._most = most
        self._changed = changed
        self.taken = 0

    def check(self) -> None:
        """Refuse when no place is free.

        Raises:
            Refusal: none is.
        """
        if self.taken >= self._most:
            raise refusals.overloaded()

    def enter(self) -> None:
        """Take a place.

        Raises:
            Refusal: none is free.
        """
        self.check()
        self.taken += 1
        self._changed(self.taken)

    def leave(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._changed(self.taken)


class Admission:
    """One worker's answer to whether a request may come in.

    Args:
        settings: the limits.
        in_flight_changed: told the number of requests in flight whenever it changes.
    """

    def __init__(
        self, settings: Settings, in_flight_changed: Callable[[int], object] = lambda _taken: None
    ) -> None:
        self._limits = BodyLimits.from_settings(settings)
        self._requests = Places(settings.max_in_flight, in_flight_changed)
        self._operations = Places(OPERATIONS_PLACES)
        self._upload_memory = settings.upload_memory
        self._uploaded = 0
        self._loop_token = settings.loop_token
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)

    def check_caller(self, head: Head) -> None:
        """Judge whom a request is addressed to, who sends it, and whose page.

        Raises:
            Refusal: the settings do not know the host name or the origin, or it is our own fetch.
        """
        if head.passed(self._loop_token):
            raise refusals.loop_detected()
        if self._hosts and head.host_name not in self._hosts:
            raise refusals.host_not_allowed()
        origin = head.header("origin").lower()
        if origin and not self._origin_allowed(origin, head.host):
            raise refusals.origin_not_allowed()

    def _origin_allowed(self, origin: str, host: str) -> bool:
        """Whether pages of an origin may call; the gateway's own pages may."""
        return bool(self._origins & {"*", origin}) or origin.partition("://")[2] == host

    def check_size(self, head: Head) -> int:
        """Judge what a request would cost; the answer is how many bytes its body may have.

        Raises:
            Refusal: its body is too large, or there is no place for it.
        """
        limit = self._limits.limit(head.content_type)
        if head.content_length is not None and head.content_length > limit:
            raise refusals.too_large(limit)
        self.places(head.path).check()
        return limit

    def places(self, path: str) -> Places:
        """The places that requests for a path take."""
        return self._operations if path in OPERATIONS else self._requests

    def hold(self, held: int, more: int) -> None:
        """Account for more bytes of a body that has `held` already.

        Raises:
            Refusal: the worker's memory for bodies is in use.
        """
        new = max(0, held + more - SMALL_BODY) - max(0, held - SMALL_BODY)
        if self._uploaded + new > self._upload_memory:
            raise refusals.overloaded("Too many large bodies are being read; try again.")
        self._uploaded += new

    def let_go(self, held: int) -> None:
        """Account for a body of that many bytes that is no longer held."""
        self._uploaded -= max(0, held - SMALL_BODY)
