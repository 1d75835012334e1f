"""Who may call and how often: asked for each request once its head is complete.

Made by the master before it forks, so that all workers count in one place. Each process has its
own copy of the keys and takes them anew when their file changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.admission import OPERATIONS
from gateway.callers import Caller, Network, find_caller
from gateway.errors import RateLimited
from gateway.keys import KeyRing
from gateway.rates import RateLimits
from gateway.server import cross_origin, refusals
from gateway.server.head import Head
from gateway.settings import Settings


@dataclass(frozen=True)
class Access:
    """The guards of one gateway; without settings everybody may call, as often as he likes.

    Attributes:
        proxies: networks whose X-Forwarded-For is believed.
        keys: the API keys, one of which a request must show; None is no such rule.
        limits: how many pictures a caller may ask for.
    """

    proxies: Sequence[Network] = ()
    keys: KeyRing | None = None
    limits: RateLimits = field(default_factory=RateLimits)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Access":
        """The guards that the settings ask for.

        Raises:
            BrokenKeys: the file of keys has become unusable since the settings were read.
        """
        keys = KeyRing(Path(settings.api_keys_file)) if settings.api_keys_file else None
        return cls(settings.trusted_proxies, keys, RateLimits(settings.rate_limits))

    def identify(self, head: Head, peer: str) -> Caller:
        """The caller by its address, as far as our own proxies tell it."""
        forwarded = [value for name, value in head.headers if name == "x-forwarded-for"]
        return find_caller(peer, forwarded, self.proxies)

    def check_key(self, head: Head, caller: Caller) -> Caller:
        """The caller with its key's name.

        Raises:
            Refusal: it shows no key, or none that is known.
        """
        if self.keys is None or _open_to_all(head):
            return caller
        name = self.keys.find(_shown_key(head))
        if name is None:
            raise refusals.key_not_valid("The API key is not one that this gateway knows.")
        return replace(caller, key=name)

    def check_rate(self, head: Head, caller: Caller) -> None:
        """Count a request as one picture, before its body is read.

        Raises:
            Refusal: the caller has to wait.
        """
        if _open_to_all(head):
            return
        try:
            self.limits.charge(caller, 1)
        except RateLimited as error:
            raise refusals.of_error(error) from error

    def count_pictures(self, caller: Caller, pictures: int) -> None:
        """Count all pictures of a request that has been counted as one.

        Raises:
            RateLimited: the caller has to wait.
        """
        if pictures > 1:
            self.limits.charge(caller, pictures, paid=1)

    def refresh(self) -> None:
        """Look whether the keys have changed; to be called about once a second."""
        if self.keys is not None:
            self.keys.refresh()

    @property
    def keys_broken(self) -> bool:
        """Whether older keys are used because their file is broken."""
        return self.keys is not None and self.keys.broken


def _open_to_all(head: Head) -> bool:
    """Whether it is a probe, or a browser's question whether a page may call at all.

    A browser sends neither keys nor anything else with that question, and the server answers it.
    None of them has a body, which would be read and held for nobody.
    """
    if head.chunked or head.content_length:
        return False
    probe = head.method in {"GET", "HEAD"} and head.path in OPERATIONS
    return probe or cross_origin.preflight(head) is not None


def _shown_key(head: Head) -> str:
    """The key of a request's `Authorization: Bearer` or `X-API-Key`, of which there may be one.

    Raises:
        Refusal: there is none, or more than one.
    """
    shown = [
        (name, value) for name, value in head.headers if name in {"authorization", "x-api-key"}
    ]
    if not shown:
        raise refusals.key_missing()
    if len(shown) > 1:
        raise refusals.key_not_valid("Send one API key, in one header.")
    name, value = shown[0]
    if name == "x-api-key":
        return value
    scheme, _, key = value.partition(" ")
    if scheme.lower() != "bearer":
        raise refusals.key_not_valid("The Authorization header is not `Bearer` and an API key.")
    return key.strip(" ")
