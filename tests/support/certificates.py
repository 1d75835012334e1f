"""Certificates of hosts that speak TLS, from an authority of the tests' own."""

import ssl
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


def weakly_serving(key_bits: int = 2048, digest: str = "sha256") -> ssl.SSLContext:
    """A server's context with a certificate of the tests' authority that is too weak to prove.

    Made by `openssl`, as no library signs with SHA-1 any more.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        TRUSTED.cert_pem.write_to_path(str(place / "ca.pem"))
        TRUSTED.private_key_pem.write_to_path(str(place / "ca.key"))
        (place / "names").write_text(f"subjectAltName=DNS:{NAME}\n")
        for command in (
            f"req -new -newkey rsa:{key_bits} -nodes -subj /CN=weak -keyout key -out request",
            f"x509 -req -{digest} -in request -CA ca.pem -CAkey ca.key -set_serial 1 -days 1"
            " -extfile names -out certificate",
        ):
            subprocess.run(
                ["openssl", *command.split()], cwd=place, check=True, capture_output=True
            )
        context.load_cert_chain(place / "certificate", place / "key")
    return context
