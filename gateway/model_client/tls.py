"""The files that encrypt calls to TensorFlow Serving, read again when they have changed."""

import logging
import os
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger("tensorgate.models")


@dataclass(frozen=True)
class TlsFiles:
    """Where certificates and key lie, all of them PEM.

    authorities: who may have signed the server's certificate.
    certificate: what the gateway shows, with its chain; None where it shows none.
    key: the certificate's; None where there is none.
    """

    authorities: Path
    certificate: Path | None = None
    key: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        """Those that there are."""
        return tuple(filter(None, (self.authorities, self.certificate, self.key)))


@dataclass(frozen=True)
class TlsContents:
    """What was in the files."""

    authorities: bytes
    certificate: bytes | None
    key: bytes | None


def read_tls_files(files: TlsFiles) -> TlsContents:
    """What is in the files.

    Raises:
        ValueError: they cannot be used; a part of a sentence that says which, and why.
    """
    check_certificates(files.authorities)
    authorities = _read(files.authorities)
    if files.certificate is None or files.key is None:
        return TlsContents(authorities, None, None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificate, key = _read(files.certificate), _read(files.key)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_passphrase)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{files.certificate} and {files.key} are not a certificate in PEM and its key without "
            f"a passphrase ({_reason(error)})"
        ) from error
    return TlsContents(authorities, certificate, key)


def check_certificates(path: Path) -> None:
    """Go on only with a file of certificates.

    Raises:
        ValueError: it is none; a part of a sentence that says why.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise ValueError(f"must be a file of certificates in PEM ({_reason(error)})") from error


def check_key(path: Path) -> None:
    """Go on only with a file that has a private key which needs no passphrase.

    Raises:
        ValueError: it has none; a part of a sentence that says why.
    """
    text = _read(path)
    if b"PRIVATE KEY-----" not in text or b"ENCRYPTED" in text:
        raise ValueError("must be a file of a private key in PEM without a passphrase")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"must be a file that can be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)


def _refuse_passphrase() -> str:
    raise ValueError("it has a passphrase")


class ClientTls:
    """What encrypts the connections of one client, as new as its files.

    Args:
        files: where it lies.
        server_name: what the server's certificate must be for.

    Raises:
        ValueError: the files cannot be used.
    """

    def __init__(self, files: TlsFiles, server_name: str) -> None:
        self.server_name = server_name
        self._files = files
        self._seen = self._stamps()
        self._contents = read_tls_files(files)
        self._lock = threading.Lock()

    @property
    def contents(self) -> TlsContents:
        """What a new connection is to use."""
        return self._contents

    def refresh(self) -> bool:
        """Whether the files have changed since they were read and can be used; if so, use them.

        Of several threads that ask after one change, one hears of it.
        """
        with self._lock:
            stamps = self._stamps()
            if stamps == self._seen:
                return False
            self._seen = stamps
            try:
                contents = read_tls_files(self._files)
            except ValueError as error:
                logger.warning("changed files of TLS are not used yet: %s", error)
                return False
            changed = contents != self._contents
            self._contents = contents
        if changed:
            logger.info("changed files of TLS are used for new connections")
        return changed

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_stamp, self._files.paths()))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What differs once the file was written again or replaced, by a link to another one too."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
