"""The error tree: every failure a caller may hear of.

A leaf is named for what happened and owns its kind, its stable slug and its title; whether trying
again can help follows from the kind. Each door has one table from kind to its protocol's status.
The message of an error is shown to callers: it says what, with which value, and what to do, and
never holds an address that a name resolved to or a stranger's bytes. What only the operator may
read goes to `log_detail`.
"""

import enum
from typing import ClassVar


class Kind(enum.Enum):
    """What a failure means to whoever asked."""

    INVALID = "invalid"
    """The request itself is malformed."""
    REFUSED = "refused"
    """The request is well formed, and what it names will not be processed."""
    NOT_FOUND = "not-found"
    """The model, version or label does not exist."""
    LIMITED = "limited"
    """This caller has asked for more than it may; trying again later helps."""
    OVERLOADED = "overloaded"
    """More is asked than can be done; trying again later helps."""
    UNAVAILABLE = "unavailable"
    """Something needed is not there now; trying again later helps."""
    DEADLINE = "deadline"
    """The time for the request ran out."""
    UPSTREAM = "upstream"
    """A host that the caller named, or the model's answer, is at fault."""
    INTERNAL = "internal"
    """Our own mistake."""


RETRYABLE = frozenset(
    {Kind.LIMITED, Kind.OVERLOADED, Kind.UNAVAILABLE, Kind.DEADLINE, Kind.UPSTREAM}
)


class GatewayError(Exception):
    """Root of everything callers may hear of.

    Args:
        message: a sentence for the caller.
        log_detail: what only the log gets.
        retry_after: seconds after which trying again makes sense, if known.
    """

    kind: ClassVar[Kind]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self, message: str, *, log_detail: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.log_detail = log_detail
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.kind in RETRYABLE


class InvalidRequest(GatewayError):
    """The body, a field or a parameter is malformed."""

    kind, slug, title = Kind.INVALID, "invalid-request", "The request is malformed"


class InvalidURL(GatewayError):
    """The URL breaks a rule of syntax; the message says which."""

    kind, slug, title = Kind.INVALID, "invalid-url", "The URL is malformed"


class URLNotAllowed(GatewayError):
    """The URL's host may not be fetched or cannot be reached: one text for all of these."""

    kind, slug, title = Kind.REFUSED, "url-not-allowed", "The URL cannot be fetched"


class UndecodableImage(GatewayError):
    """The bytes are no picture of a format we read, or a broken one."""

    kind, slug, title = Kind.REFUSED, "undecodable-image", "The picture cannot be read"


class ImageTooLarge(GatewayError):
    """The picture has more bytes or pixels than the settings allow."""

    kind, slug, title = Kind.REFUSED, "image-too-large", "The picture is too large"


class CallerGone(GatewayError):
    """The caller hung up; nobody hears this, and no work is left to be done for it."""

    kind, slug, title = Kind.INVALID, "caller-gone", "The caller hung up"


class ModelNotFound(GatewayError):
    """The gateway or TensorFlow Serving has no such model, version or label.

    Args:
        message: a sentence for the caller.
        log_detail: what only the log gets.
        version_named: whether a version or label was asked for; where none was, a model that the
            gateway is configured with is missing from TensorFlow Serving.
    """

    kind, slug, title = Kind.NOT_FOUND, "model-not-found", "There is no such model"

    def __init__(self, message: str, *, log_detail: str = "", version_named: bool = False) -> None:
        super().__init__(message, log_detail=log_detail)
        self.version_named = version_named


class RateLimited(GatewayError):
    """The caller has asked for more pictures than RATE_LIMITS allows in this time."""

    kind, slug, title = Kind.LIMITED, "rate-limited", "Too many pictures in too short a time"


class Overloaded(GatewayError):
    """The gateway has no room for another request."""

    kind, slug, title = Kind.OVERLOADED, "overloaded", "Too many requests at once"


class ModelOverloaded(GatewayError):
    """TensorFlow Serving's queue is full."""

    kind, slug, title = Kind.OVERLOADED, "model-overloaded", "The model has too much to do"


class ModelUnavailable(GatewayError):
    """TensorFlow Serving cannot be reached, or has not loaded the model."""

    kind, slug, title = Kind.UNAVAILABLE, "model-unavailable", "The model is not available"


class ContractMismatch(GatewayError):
    """A contract does not fit its signature, or versions with other contracts keep changing."""

    kind, slug, title = Kind.UNAVAILABLE, "contract-mismatch", "The model's contract does not fit"


class Draining(GatewayError):
    """The gateway is about to stop."""

    kind, slug, title = Kind.UNAVAILABLE, "draining", "The gateway is stopping"


class EgressUnavailable(GatewayError):
    """The proxy through which pictures are fetched fails or does not let the gateway in."""

    kind, slug, title = Kind.UNAVAILABLE, "egress-unavailable", "Pictures cannot be fetched now"


class DeadlineExceeded(GatewayError):
    """The time for the request ran out; the message says where."""

    kind, slug, title = Kind.DEADLINE, "deadline-exceeded", "The request took too long"


class OriginFailed(GatewayError):
    """The picture's host answered with an error or broke its protocol."""

    kind, slug, title = Kind.UPSTREAM, "origin-failed", "The picture's host failed"

    def __init__(
        self, message: str, *, log_detail: str = "", origin_status: int | None = None
    ) -> None:
        super().__init__(message, log_detail=log_detail)
        self.origin_status = origin_status


class OriginTimeout(GatewayError):
    """The picture's host did not deliver in time."""

    kind, slug, title = Kind.DEADLINE, "origin-timeout", "The picture's host took too long"


class ModelFailed(GatewayError):
    """The model's answer is an error or not what its contract says."""

    kind, slug, title = Kind.UPSTREAM, "model-failed", "The model failed"


class ModelRejectedInput(GatewayError):
    """TensorFlow Serving calls our request wrong: INVALID_ARGUMENT or FAILED_PRECONDITION."""

    kind, slug, title = Kind.INTERNAL, "model-rejected-input", "The model refused the tensor"


class DecoderDied(GatewayError):
    """The process that decoded a picture ended, of the picture or of something else."""

    kind, slug, title = Kind.INTERNAL, "decoder-died", "The picture's decoder died"


class InternalError(GatewayError):
    """Our own mistake; outside it is a fixed sentence."""

    kind, slug, title = Kind.INTERNAL, "internal-error", "Something went wrong in the gateway"
