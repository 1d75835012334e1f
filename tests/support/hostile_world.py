"""A gateway process in a hostile world: one host of pictures, its names, and canaries.

The gateway may fetch from 127.0.0.1 at the host's port. The canaries listen where a gateway without
its guards would go: `canary` on all addresses of the machine at an allowed port, `rebound` at
127.0.0.2 and the host's own port.
"""

import io
import json
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.certificates import TRUSTED
from tests.support.hostile_origin import HostileOrigin, Script, answer, answer_once, response
from tests.support.processes import Answer, Gateway, free_port, gateway
from tests.support.stub_serving import StubServing
from tests.support.waiting import wait_until
from tests.support.zone_server import Reply, ZoneServer, addresses

FETCH_TIMEOUT = 2.0
BOUND = 10.0
"""Seconds after which no row may still be running, on however busy a machine."""
MAX_IMAGE_BYTES = 20_000
FLOOR = 0.05
HOST_NAME = "pictures.test"
REBINDING = "rebinding.test"
SELF = "gateway.test"
INNER = (
    "kubernetes.default.svc",
    "tf-serving.models.svc.cluster.local",
    "tf-serving",
    "inner.test",
)
"""Names of inner hosts: all of them are 127.0.0.1, where a canary listens."""


def _png() -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((32, 32)).save(file, "PNG")
    return file.getvalue()


PNG = _png()
HEALTHY = answer_once(response(PNG, fields=("Connection: close",)))


@dataclass
class World:
    """Everything that a row may talk of."""

    gateway: Gateway
    workers: list[int]
    host: HostileOrigin
    canary: HostileOrigin
    rebound: HostileOrigin
    names: ZoneServer
    closed_port: int
    full_port: int

    def url(self, template: str) -> str:
        """A URL with `{host}`, `{canary}`, `{closed}`, `{full}` and `{own}` for these ports."""
        ports = {
            "{host}": self.host.port,
            "{canary}": self.canary.port,
            "{closed}": self.closed_port,
            "{full}": self.full_port,
            "{own}": self.gateway.address[1],
        }
        for name, port in ports.items():
            template = template.replace(name, str(port))
        return template

    def plays(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        """Have the host follow this script from now on."""
        self.host.script, self.host.tls = script, tls

    def predict(self, template: str) -> Answer:
        """What the gateway says to a URL; it says so inside the bound."""
        started = time.monotonic()
        said = self.gateway.predict({"url": self.url(template)})
        assert time.monotonic() - started < BOUND
        return said

    def refuses(self, template: str, status: int, slug: str) -> dict[str, Any]:
        """The problem that a URL is answered with, which must be this."""
        said = self.predict(template)
        document: dict[str, Any] = said.json
        assert (said.status, document["type"]) == (status, f"urn:tensorgate:problem:{slug}")
        assert said.headers["content-type"] == "application/problem+json"
        whole = json.dumps(said.headers) + said.body.decode()
        assert "secret-of-the-origin" not in whole
        assert "127.0.0" not in whole, "an address"
        return document

    def check_unharmed(self) -> None:
        """Nobody was reached who should not be, and the gateway is as it was."""
        assert self.canary.connections == 0
        assert self.rebound.connections == 0
        self.host.hang_up()
        wait_until(lambda: not self.host.open_connections, what="the host has no visitor")
        self.plays(HEALTHY)
        assert self.predict("http://127.0.0.1:{host}/").status == 200
        assert self.gateway.workers() == self.workers


@contextmanager
def _full_listener() -> Iterator[int]:
    """The port of somebody who never lets in: a queue of connections that is full."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = listening.getsockname()[1]
        for _ in range(8):
            filling = opened.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.1", port))
        yield port


@contextmanager
def hostile_world(directory: Path, zone: dict[str, Sequence[Reply]]) -> Iterator[World]:
    """A running world, with these names beside its own."""
    authority, netrc = directory / "authority.pem", directory / "netrc"
    TRUSTED.cert_pem.write_to_path(str(authority))
    netrc.write_text("default login netrc-user password netrc-secret\n")
    own_port, closed_port = free_port(), free_port()
    inner = {name: [addresses("127.0.0.1")] for name in (*INNER, SELF, HOST_NAME)}
    rebinding = {REBINDING: [addresses("127.0.0.1"), addresses("127.0.0.2")]}
    with (
        HostileOrigin(HEALTHY) as host,
        HostileOrigin(answer(response(PNG)), address="127.0.0.2", port=host.port) as rebound,
        HostileOrigin(answer(response(PNG)), address="::") as canary,
        ZoneServer({**inner, **rebinding, **zone}) as names,
        _full_listener() as full_port,
        StubServing() as stub,
    ):
        allowed = (host.port, own_port, closed_port, full_port)
        proxy = f"http://127.0.0.1:{canary.port}"
        settings: dict[str, Any] = {
            "allowed_networks": ",".join(f"127.0.0.1/32:{port}" for port in allowed),
            "allowed_ports": f"80,443,{canary.port}",
            "bind": f"127.0.0.1:{own_port}",
            "name_servers": f"127.0.0.1:{names.port}",
            "fetch_timeout": FETCH_TIMEOUT,
            "max_image_bytes": MAX_IMAGE_BYTES,
            "threads": 2,
            "fetch_threads": 1,
            "ssl_cert_file": authority,
            "http_proxy": proxy,
            "https_proxy": proxy,
            "all_proxy": proxy,
            "netrc": netrc,
            "home": directory,
        }
        with gateway(stub.address, **settings) as started:
            workers = started.workers()
            yield World(started, workers, host, canary, rebound, names, closed_port, full_port)
