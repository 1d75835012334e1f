"""Who may call, how large a body may be, and how much may be in flight.

All of it is asked when a request's head is complete and before its body is read. A worker's counts
belong to its event loop and are touched by no other thread.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway import refusals
from gateway.head import Head
from gateway.settings import MIB, Settings

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

    def limit(self, content_type: str) -> tuple[int, str]:
        """The limit for a media type, and what to call it to the caller."""
        if content_type == "application/json" or content_type.endswith("+json"):
            return self.json, "a JSON body"
        if content_type.startswith("image/") or content_type == "application/octet-stream":
            return self.image, "one picture"
        if content_type == "multipart/form-data":
            return self.multipart, "a form"
        return self.other, "a body of this content type"


class Admission:
    """One worker's answer to whether a request may come in."""

    def __init__(self, settings: Settings) -> None:
        self.limits = BodyLimits.from_settings(settings)
        self.places = settings.max_in_flight
        self.in_flight = 0
        self.upload_memory = settings.upload_memory
        self.uploaded = 0
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)

    def check(self, head: Head) -> int:
        """Judge a head; the answer is how many bytes its body may have.

        Raises:
            Refusal: the request may not come in.
        """
        self.check_caller(head)
        limit, sort = self.limits.limit(head.content_type)
        if head.content_length is not None and head.content_length > limit:
            raise refusals.too_large(limit, sort)
        if self.in_flight >= self.places:
            raise refusals.overloaded()
        return limit

    def check_caller(self, head: Head) -> None:
        """Refuse a host name or an origin that the settings do not know."""
        if self._hosts and head.host_name not in self._hosts:
            raise refusals.host_not_allowed()
        origin = head.header("origin")
        if origin and not self.origin_allowed(origin, head.host):
            raise refusals.origin_not_allowed()

    def origin_allowed(self, origin: str, host: str) -> bool:
        """Whether pages of an origin may call; the gateway's own pages may."""
        if "*" in self._origins or origin.lower() in self._origins:
            return True
        try:
            return urlsplit(origin).netloc.lower() == host
        except ValueError:
            return False

    def enter(self) -> None:
        """Take a place for a whole request.

        Raises:
            Refusal: none is free.
        """
        if self.in_flight >= self.places:
            raise refusals.overloaded()
        self.in_flight += 1

    def leave(self) -> None:
        """Give a place back."""
        self.in_flight -= 1

    def hold(self, held: int, more: int) -> None:
        """Account for bytes of a body that has `held` already.

        Raises:
            Refusal: the worker's memory for uploads is in use.
        """
        new = max(0, held + more - SMALL_BODY) - max(0, held - SMALL_BODY)
        if self.uploaded + new > self.upload_memory:
            raise refusals.overloaded("Too many large bodies are being read; try again.")
        self.uploaded += new

    def let_go(self, held: int) -> None:
        """Account for a body of that many bytes that is no longer held."""
        self.uploaded -= max(0, held - SMALL_BODY)
