"""Certificates of hosts that speak TLS, from an authority of the tests' own."""

import ssl
from datetime import UTC, datetime, timedelta

import trustme

NAME = "pictures.test"
TRUSTED = trustme.CA()


def serving(
    *identities: str, authority: trustme.CA = TRUSTED, expired: bool = False
) -> ssl.SSLContext:
    """A server's context with a certificate for these identities."""
    now = datetime.now(UTC)
    ended = now - timedelta(days=1) if expired else now + timedelta(days=1)
    issued = authority.issue_cert(
        *(identities or (NAME,)), not_before=now - timedelta(days=9), not_after=ended
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    """A visitor's context that trusts the tests' authority."""
    context = ssl.create_default_context()
    TRUSTED.configure_trust(context)
    return context
