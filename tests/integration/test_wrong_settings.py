"""A wrong value of each setting ends the process before it has begun anything."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
LIST = "must be a comma-separated list "
WRONG = {
    "TF_SERVING_HOST": (
        "serving-a:8500,serving-b:8500",
        "must be host:port, or several IP addresses of one family with ports",
    ),
    "TF_SERVING_CA_FILE": (
        "/nowhere/ca.pem",
        "must be a file of certificates in PEM (No such file or directory)",
    ),
    "TF_SERVING_CERTIFICATE_FILE": (
        __file__,
        "must be a file of certificates in PEM (no certificate or crl found)",
    ),
    "TF_SERVING_KEY_FILE": (
        "/nowhere/key.pem",
        "must be a file that can be read (No such file or directory)",
    ),
    "TF_SERVING_NAME": ("serving:8500/", "must be the name or IP address of a host"),
    "MODELS": ("clothing/model", LIST + "of model names without / and :"),
    "CONTRACT_FILES": ("contract.json", LIST + "of model=/path/to/contract.json"),
    "BIND": ("9696", "must be host:port, an IPv6 address in square brackets"),
    "METRICS_BIND": (
        "127.0.0.1:65536",
        "must have as its port a whole number from 1 to 65535",
    ),
    "WORKERS": ("-1", "must be a whole number from 0 to 256"),
    "THREADS": ("0", "must be a whole number from 1 to 256"),
    "MAX_IN_FLIGHT": ("1e3", "must be a whole number from 0 to 100000"),
    "MAX_CONNECTIONS": ("", "must be a whole number from 1 to 100000"),
    "REQUEST_TIMEOUT": ("20s", "must be a number of seconds from 0.1 to 600"),
    "HEAD_TIMEOUT": ("0", "must be a number of seconds from 0.1 to 600"),
    "BODY_TIMEOUT": ("nan", "must be a number of seconds from 0.1 to 600"),
    "ANSWER_TIMEOUT": ("inf", "must be a number of seconds from 0.1 to 600"),
    "KEEP_ALIVE": ("1h", "must be a number of seconds from 0 to 3600"),
    "DRAIN_DELAY": ("3601", "must be a number of seconds from 0 to 3600"),
    "DRAIN_TIMEOUT": ("-1", "must be a number of seconds from 0 to 3600"),
    "MAX_JSON_BYTES": ("64K", "must be a whole number from 1024 to 1073741824"),
    "MAX_IMAGE_BYTES": ("10MiB", "must be a whole number from 1024 to 1073741824"),
    "MAX_IMAGE_PIXELS": ("2147483648", "must be a whole number from 1 to 2147483647"),
    "UPLOAD_MEMORY": ("1024", "must be a whole number from 1048576 to 1125899906842624"),
    "MAX_IMAGES": ("16.0", "must be a whole number from 1 to 1000"),
    "DECODE_MEMORY": ("1048576", "must be a whole number from 16777216 to 1125899906842624"),
    "DECODE_CHILDREN": ("-1", "must be a whole number from 0 to 256"),
    "FETCH_TIMEOUT": ("ten", "must be a number of seconds from 0.1 to 600"),
    "FETCH_MEMORY": ("256M", "must be a whole number from 1048576 to 1125899906842624"),
    "FETCH_THREADS": ("١٦", "must be a whole number from 1 to 1000"),
    "ALLOWED_NETWORKS": (
        "10.0.0.1/8",
        "must hold networks such as 10.0.0.0/8: 10.0.0.1/8 has host bits set",
    ),
    "ALLOWED_PORTS": ("80,https", LIST + "of whole numbers from 1 to 65535"),
    "PICTURE_HOSTS": (
        "http://a.example",
        LIST + "of host names such as a.example.org, *.example.org",
    ),
    "URL_KEYS_FILE": (
        __file__,
        "must name a file with keys of 32 or more ASCII characters, one a line",
    ),
    "EGRESS_PROXY": ("proxy.example", "must be host:port, an IPv6 address in square brackets"),
    "EGRESS_PROXY_CREDENTIALS_FILE": (
        __file__,
        "must name a file with one line, user:password, in ASCII",
    ),
    "NAME_SERVERS": (
        "dns.example:53",
        LIST + "of IP addresses such as 10.0.0.53:53",
    ),
    "LOOP_TOKEN": ("secret", "must be 8 to 128 letters, digits, dots, hyphens and underscores"),
    "API_KEYS_FILE": (
        "/nowhere/keys",
        "is not a file of API keys: it cannot be read (No such file or directory)",
    ),
    "RATE_LIMITS": (
        "60/minute",
        "must be key=600/minute, address=60/minute or both with a comma: from 1 to 1000000 "
        "pictures a second, minute or hour",
    ),
    "TRUSTED_PROXIES": (
        "10.0.0.1/8",
        "must hold networks such as 10.0.0.0/8: 10.0.0.1/8 has host bits set",
    ),
    "ALLOWED_HOSTS": ("a.example,,b.example", LIST + "without empty or repeated entries"),
    "ALLOWED_ORIGINS": (
        "example.org",
        "must be * or a comma-separated list such as https://example.org",
    ),
    "MAX_MODEL_RETRIES": ("11", "must be a whole number from 0 to 10"),
    "CIRCUIT_MIN_TIME": ("-1", "must be a number of seconds from 0 to 600"),
    "MODEL_WATCH_INTERVAL": ("0.01", "must be a number of seconds from 0.05 to 3600"),
    "LOG_LEVEL": ("info\n", "must be one of debug, info, warning, error"),
}
"""A wrong value of each setting, and what the message says is right. None takes just any text."""


@pytest.fixture(scope="module")
def taken() -> Iterator[str]:
    """An address on which the gateway cannot listen: to try it would end it with 1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_the_table_has_every_setting_of_the_page() -> None:
    assert NAMES
    assert list(WRONG) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_value_ends_the_process_with_one_line_before_it_listens(
    name: str, taken: str
) -> None:
    value, right = WRONG[name]
    addresses = {"BIND": taken, "METRICS_BIND": taken}
    # What comes back has been read until the last process with this standard error has ended.
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **addresses, name: value},
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )

    assert ended.stderr == f"tensorgate: {name}={value!r} {right}\n"
    assert (ended.returncode, ended.stdout) == (2, "")


def test_a_limit_of_keys_without_keys_ends_the_process(taken: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "BIND": taken, "RATE_LIMITS": "key=1/minute"},
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )

    assert ended.stderr == (
        "tensorgate: RATE_LIMITS='key=1/minute' limits keys, but API_KEYS_FILE names no file of "
        "keys\n"
    )
    assert ended.returncode == 2
