"""Every setting, read once from the environment and checked before anything starts.

A field's environment variable is its name in capitals. `docs/settings.md` is held to this file by a
test. To read the settings is `Settings.from_environment(os.environ)`.
"""

import dataclasses
import ipaddress
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import keys, rates
from gateway.cpu import available_cpus
from gateway.model_client.tls import TlsFiles, check_certificates, check_key, read_tls_files

MIB = 1024 * 1024
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_PATTERN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_KEY = re.compile(r"[!-~]{32,}")
_CREDENTIALS = re.compile(r"[!-9;-~]+:[!-~]+")
_LOOP_TOKEN = re.compile(r"[A-Za-z0-9._-]{8,128}")


class InvalidSetting(Exception):
    """A setting's value is wrong; the message is one line that names it and says what is right."""


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser of one of the words."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return parse


def integer(low: int, high: int, wording: str = "must be a whole number") -> Callable[[str], int]:
    """A parser of whole numbers from low to high."""

    def parse(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise ValueError(f"{wording} from {low} to {high}")
        return int(value)

    return parse


port_number = integer(1, 65535, "must have as its port a whole number")
port_in_list = integer(1, 65535, "must be a comma-separated list of whole numbers")


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A parser of seconds from low to high, fractions allowed."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return number

    return parse


def names(value: str) -> tuple[str, ...]:
    """A comma-separated list without repeats or empty places; an empty value is no names."""
    if not value.strip():
        return ()
    items = tuple(item.strip() for item in value.split(","))
    if "" in items or len(set(items)) != len(items):
        raise ValueError("must be a comma-separated list without empty or repeated entries")
    return items


def model_names(value: str) -> tuple[str, ...]:
    """Names of models: at least one, without `/` and `:`, which TensorFlow Serving refuses."""
    items = names(value)
    if not items or any("/" in item or ":" in item for item in items):
        raise ValueError("must be a comma-separated list of model names without / and :")
    return items


def address(value: str) -> tuple[str, int]:
    """A host and a port, `host:port`; an IPv6 address stands in square brackets."""
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError("must be host:port, an IPv6 address in square brackets")
    return (host[1:-1] if bracketed else host), port_number(port)


def optional_address(value: str) -> tuple[str, int] | None:
    """A host and a port, or nothing."""
    return address(value) if value else None


def listening_address(value: str) -> tuple[str, int]:
    """An address to listen on: port 0 is any that is free."""
    if value.endswith(":0"):
        return address(value[:-1] + "1")[0], 0
    return address(value)


def model_servers(value: str) -> tuple[tuple[str, int], ...]:
    """One host:port, or several, comma-separated, whose hosts are IP addresses of one family."""
    servers = tuple(address(item) for item in names(value))
    families = {_ip_version(host) for host, _ in servers}
    if not servers or (len(servers) > 1 and (len(families) > 1 or families == {0})):
        raise ValueError("must be host:port, or several IP addresses of one family with ports")
    return servers


def _ip_version(host: str) -> int:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


def name_servers(value: str) -> tuple[tuple[str, int], ...]:
    """IP addresses of name servers, comma-separated, each with an optional port."""
    return tuple(_name_server(item) for item in names(value))


def _name_server(item: str) -> tuple[str, int]:
    try:
        return str(ipaddress.ip_address(item)), 53
    except ValueError:
        host, port = address(item)
    if not _ip_version(host):
        raise ValueError("must be a comma-separated list of IP addresses such as 10.0.0.53:53")
    return host, port


def host_patterns(value: str) -> tuple[str, ...]:
    """Host names in lower case and IP addresses; `*.` in front stands for all names below one."""
    return tuple(_host_pattern(item) for item in names(value))


def _host_pattern(item: str) -> str:
    try:
        return str(ipaddress.ip_address(item))
    except ValueError:
        if not _HOST_PATTERN.fullmatch(item.lower()):
            raise ValueError(
                "must be a comma-separated list of host names such as a.example.org, *.example.org"
            ) from None
    return item.lower()


def loop_token(value: str) -> str:
    """A word that can stand in a header and is not guessed by chance; empty is for a random one."""
    if value and not _LOOP_TOKEN.fullmatch(value):
        raise ValueError("must be 8 to 128 letters, digits, dots, hyphens and underscores")
    return value


def ports(value: str) -> frozenset[int]:
    """A comma-separated list of TCP ports."""
    parsed = frozenset(port_in_list(item) for item in names(value))
    if not parsed:
        raise ValueError("must name at least one port")
    return parsed


def files_by_model(value: str) -> Mapping[str, Path]:
    """A comma-separated list of model=path pairs, each path that of a readable file."""
    pairs: dict[str, Path] = {}
    for item in names(value):
        model, equals, path = item.partition("=")
        if not (model and equals and path) or model in pairs:
            raise ValueError("must be a comma-separated list of model=/path/to/contract.json")
        if not Path(path).is_file():
            raise ValueError(f"names a file that does not exist: {path}")
        pairs[model] = Path(path)
    return pairs


@dataclass(frozen=True)
class Secret:
    """What no log and no message may hold."""

    value: bytes = dataclasses.field(repr=False)


def secrets_of_file(value: str) -> tuple[Secret, ...]:
    """The keys in a file, one on each line; an empty value is none."""
    if not value:
        return ()
    lines = _readable(value).splitlines()
    if not lines or not all(_KEY.fullmatch(line) for line in lines):
        raise ValueError("must name a file with keys of 32 or more ASCII characters, one a line")
    return tuple(Secret(line.encode("ascii")) for line in lines)


def credentials_of_file(value: str) -> Secret | None:
    """A user and a password, `user:password`, in a file; an empty value is none."""
    if not value:
        return None
    line = _readable(value).removesuffix("\n")
    if not _CREDENTIALS.fullmatch(line):
        raise ValueError("must name a file with one line, user:password, in ASCII")
    return Secret(line.encode("ascii"))


def _readable(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError):
        raise ValueError("must name a file that can be read") from None


@dataclass(frozen=True)
class AllowedNetwork:
    """Addresses that pictures may come from though not public; port None is any allowed port."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    port: int | None


def networks(value: str) -> tuple[AllowedNetwork, ...]:
    """A comma-separated list of networks, each with an optional port: [fd00::/8]:9000."""
    return tuple(_network(item) for item in names(value))


def _network(item: str) -> AllowedNetwork:
    port: int | None = None
    network = item
    if item.startswith("["):
        network, bracket, rest = item[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("must hold networks such as 10.0.0.0/8 or [fd00::/8]:9000")
        if rest:
            port = port_number(rest[1:])
    elif item.count(":") == 1:
        network, _, digits = item.partition(":")
        port = port_number(digits)
    try:
        return AllowedNetwork(ipaddress.ip_network(network), port)
    except ValueError as error:
        raise ValueError(f"must hold networks such as 10.0.0.0/8: {error}") from error


def proxies(value: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """A comma-separated list of networks, without ports, none of which is everybody."""
    try:
        found = tuple(ipaddress.ip_network(item) for item in names(value))
    except ValueError as error:
        raise ValueError(f"must hold networks such as 10.0.0.0/8: {error}") from error
    if any(network.prefixlen == 0 for network in found):
        raise ValueError("must not hold all addresses: then every caller could claim to be any")
    return found


def keys_file(value: str) -> str:
    """The path of a file of API keys, which is read to see whether it is right; empty is none."""
    try:
        if value:
            keys.parse(keys.read_content(Path(value)))
    except keys.BrokenKeys as error:
        raise ValueError(f"is not a file of API keys: {error}") from error
    return value


def origins(value: str) -> tuple[str, ...]:
    """A comma-separated list of origins as browsers write them, or `*` alone for any."""
    items = names(value)
    for item in items:
        scheme, separator, host = item.partition("://")
        known = scheme in ("http", "https") and separator and host and "/" not in host
        if not known and items != ("*",):
            raise ValueError("must be * or a comma-separated list such as https://example.org")
    return items


def certificates(value: str) -> Path | None:
    """A file of certificates in PEM; an empty value is none."""
    if not value:
        return None
    check_certificates(Path(value))
    return Path(value)


def private_key(value: str) -> Path | None:
    """A file of a private key in PEM without a passphrase; an empty value is none."""
    if not value:
        return None
    check_key(Path(value))
    return Path(value)


def host(value: str) -> str:
    """A host's name or IP address; an empty value is none."""
    if not re.fullmatch(r"[A-Za-z0-9_.:-]*", value):
        raise ValueError("must be the name or IP address of a host")
    return value


def setting(default: str, parse: Callable[[str], Any], sentence: str) -> Any:
    """A field: its default as it would be written in the environment, its parser, its sentence."""
    metadata = {"default": default, "parse": parse, "sentence": sentence}
    return dataclasses.field(metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What the gateway can be told. Sizes are in bytes, times in seconds."""

    tf_serving_host: tuple[tuple[str, int], ...] = setting(
        "localhost:8500",
        model_servers,
        "Where TensorFlow Serving's gRPC port answers: host:port, or several IP:port with commas.",
    )
    tf_serving_ca_file: Path | None = setting(
        "",
        certificates,
        "File of who may sign TensorFlow Serving's certificate (PEM); set, calls go over TLS.",
    )
    tf_serving_certificate_file: Path | None = setting(
        "", certificates, "File of the certificate (PEM) that TensorFlow Serving is shown."
    )
    tf_serving_key_file: Path | None = setting(
        "", private_key, "File of that certificate's private key (PEM)."
    )
    tf_serving_name: str = setting(
        "",
        host,
        "Host that TensorFlow Serving's certificate must be for; empty is that of TF_SERVING_HOST.",
    )
    models: tuple[str, ...] = setting(
        "clothing-model",
        model_names,
        "The models that callers may use, comma-separated; the first answers when none is named.",
    )
    contract_files: Mapping[str, Path] = setting(
        "",
        files_by_model,
        "Contracts of models that carry none, as model=/path/contract.json, comma-separated.",
    )
    bind: tuple[str, int] = setting(
        "127.0.0.1:9696", listening_address, "Where the gateway listens, as host:port."
    )
    metrics_bind: tuple[str, int] = setting(
        "127.0.0.1:9697", listening_address, "Where /metrics listens, as host:port."
    )
    workers: int = setting(
        "0", integer(0, 256), "Worker processes; 0 is one per CPU that the cgroup's quota gives."
    )
    threads: int = setting("8", integer(1, 256), "Threads in each worker that run whole requests.")
    max_in_flight: int = setting(
        "0",
        integer(0, 100_000),
        "Requests in each worker, running or waiting, before more are refused; 0 is 4 per thread.",
    )
    max_connections: int = setting(
        "1000", integer(1, 100_000), "Open connections of callers in each worker."
    )
    request_timeout: float = setting(
        "20", seconds(0.1, 600), "Time for a whole request, from its first byte to its answer."
    )
    head_timeout: float = setting(
        "5", seconds(0.1, 600), "Time for a caller to send a request's head."
    )
    body_timeout: float = setting(
        "10", seconds(0.1, 600), "Time for a caller to send a request's body."
    )
    answer_timeout: float = setting(
        "10", seconds(0.1, 600), "Time for a caller to read its answer."
    )
    keep_alive: float = setting(
        "75", seconds(0, 3600), "Time that an idle connection stays open; above the proxy's own."
    )
    drain_delay: float = setting(
        "0",
        seconds(0, 3600),
        "Time that new connections are still taken after SIGTERM, for load balancers to notice.",
    )
    drain_timeout: float = setting(
        "25",
        seconds(0, 3600),
        "Time for requests in flight to end once new connections are refused.",
    )
    max_json_bytes: int = setting(
        str(64 * 1024), integer(1024, 1024 * MIB), "Size of a JSON body without a picture in it."
    )
    max_image_bytes: int = setting(
        str(10 * MIB), integer(1024, 1024 * MIB), "Size of one picture as a file, fetched or sent."
    )
    max_image_pixels: int = setting(
        "25000000", integer(1, 2**31 - 1), "Pixels of one picture, width times height."
    )
    upload_memory: int = setting(
        str(256 * MIB),
        integer(MIB, 1024**5),
        "Memory in each worker for bodies being read or waiting; beyond it they are refused.",
    )
    max_images: int = setting("16", integer(1, 1000), "Pictures in one request.")
    decode_memory: int = setting(
        str(512 * MIB),
        integer(16 * MIB, 1024**5),
        "Memory for decoding pictures, shared by all workers; who gets none waits.",
    )
    decode_children: int = setting(
        "0",
        integer(0, 256),
        "Processes in each worker that decode pictures, at most; 0 is one for every 4 threads.",
    )
    fetch_timeout: float = setting(
        "10", seconds(0.1, 600), "Time to fetch one picture, its redirects included."
    )
    fetch_memory: int = setting(
        str(256 * MIB),
        integer(MIB, 1024**5),
        "Memory in each worker for fetched pictures until they are scored; beyond it, refused.",
    )
    fetch_threads: int = setting(
        "16", integer(1, 1000), "Pictures that each worker fetches at once for lists of URLs."
    )
    allowed_networks: tuple[AllowedNetwork, ...] = setting(
        "",
        networks,
        "Networks beside the public that pictures may come from: 10.0.0.0/8, 10.0.0.5/32:9000.",
    )
    allowed_ports: frozenset[int] = setting(
        "80,443", ports, "Ports that pictures may come from, comma-separated."
    )
    picture_hosts: tuple[str, ...] = setting(
        "",
        host_patterns,
        "Hosts that pictures may come from, comma-separated: a.example, *.example; empty is any.",
    )
    url_keys_file: tuple[Secret, ...] = setting(
        "",
        secrets_of_file,
        "File with keys, one a line, by which URLs must be signed; empty fetches unsigned ones.",
    )
    egress_proxy: tuple[str, int] | None = setting(
        "",
        optional_address,
        "Proxy that pictures are fetched through, as host:port; empty is none.",
    )
    egress_proxy_credentials_file: Secret | None = setting(
        "", credentials_of_file, "File with user:password for the proxy; empty is none."
    )
    name_servers: tuple[tuple[str, int], ...] = setting(
        "",
        name_servers,
        "Who is asked for pictures' hosts, as IP or IP:port; empty is those of /etc/resolv.conf.",
    )
    loop_token: str = setting(
        "",
        loop_token,
        "Word by which the gateway knows its own fetches, one for all replicas; empty is random.",
    )
    api_keys_file: str = setting(
        "", keys_file, "File of hashed API keys; with it every request but probes needs a key."
    )
    rate_limits: tuple[rates.Rate, ...] = setting(
        "",
        rates.parse_rates,
        "Pictures a caller may ask for: key=600/minute, address=60/minute or both; empty is any.",
    )
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = setting(
        "",
        proxies,
        "Networks of the proxies whose X-Forwarded-For names the caller, comma-separated.",
    )
    allowed_hosts: tuple[str, ...] = setting(
        "", names, "Host names that callers may address the gateway by; empty is any."
    )
    allowed_origins: tuple[str, ...] = setting(
        "*", origins, "Origins of web pages that may call the gateway; * is any, empty is none."
    )
    max_model_retries: int = setting(
        "2", integer(0, 10), "Times that a call to an unreachable TensorFlow Serving is repeated."
    )
    circuit_min_time: float = setting(
        "0",
        seconds(0, 600),
        "Time that a call must have had for its time-out to count; 0 is half of REQUEST_TIMEOUT.",
    )
    model_watch_interval: float = setting(
        "1", seconds(0.05, 3600), "Time between looks at the models' state."
    )
    log_level: str = setting(
        "info",
        one_of("debug", "info", "warning", "error"),
        "How much is logged: debug, info, warning or error.",
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read every setting.

        Raises:
            InvalidSetting: a value is wrong; nothing has been started.
        """
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            variable = field.name.upper()
            written = environment.get(variable, field.metadata["default"])
            try:
                values[field.name] = field.metadata["parse"](written)
            except ValueError as error:
                raise InvalidSetting(f"{variable}={written!r} {error}") from error
        if any(values[name] for name in _TLS_FILES):
            _check_tls(values)
        values["circuit_min_time"] = values["circuit_min_time"] or values["request_timeout"] / 2
        values["workers"] = values["workers"] or available_cpus()
        values["max_in_flight"] = values["max_in_flight"] or 4 * values["threads"]
        if not values["api_keys_file"] and any(rate.of == "key" for rate in values["rate_limits"]):
            raise InvalidSetting(
                f"RATE_LIMITS={environment['RATE_LIMITS']!r} limits keys, but API_KEYS_FILE names "
                "no file of keys"
            )
        values["decode_children"] = values["decode_children"] or math.ceil(values["threads"] / 4)
        values["loop_token"] = values["loop_token"] or f"tensorgate-{secrets.token_hex(16)}"
        return cls(**values)

    @property
    def tf_serving_tls(self) -> TlsFiles | None:
        """The files that encrypt calls to TensorFlow Serving; None where nothing does."""
        if self.tf_serving_ca_file is None:
            return None
        return TlsFiles(
            self.tf_serving_ca_file, self.tf_serving_certificate_file, self.tf_serving_key_file
        )


_TLS_FILES = ("tf_serving_ca_file", "tf_serving_certificate_file", "tf_serving_key_file")


def _check_tls(values: Mapping[str, Any]) -> None:
    """Go on only where the settings of TLS fit each other.

    Raises:
        InvalidSetting: they do not.
    """
    authorities, certificate, key = (values[name] for name in _TLS_FILES)
    if bool(certificate) != bool(key):
        raise InvalidSetting(
            "TF_SERVING_CERTIFICATE_FILE and TF_SERVING_KEY_FILE must be set together"
        )
    if not authorities:
        raise InvalidSetting("TF_SERVING_CERTIFICATE_FILE needs TF_SERVING_CA_FILE to be set")
    if len(values["tf_serving_host"]) > 1 and not values["tf_serving_name"]:
        raise InvalidSetting(
            "TF_SERVING_CA_FILE needs TF_SERVING_NAME where TF_SERVING_HOST has several addresses"
        )
    try:
        read_tls_files(TlsFiles(authorities, certificate, key))
    except ValueError as error:
        raise InvalidSetting(f"TF_SERVING_CERTIFICATE_FILE: {error}") from error
