"""TLS between the gateway and the embedded model server: both sides proven, files exchanged."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from gateway.deadline import Deadline
from gateway.errors import ModelUnavailable
from gateway.model_client.client import ModelClient, ModelSpec
from gateway.model_client.tls import ClientTls, TlsFiles
from gateway.settings import InvalidSetting, Settings
from tests.support.echo_model import write_echo
from tests.support.gray_models import MODELS
from tests.support.model_server import ModelServer, starting
from tests.support.processes import ROOT, gateway, python
from tests.support.stub_serving import StubServing
from tests.support.waiting import wait_until

SERVER = "serving.test"
MODEL = ModelSpec("echo")
NUMBERS = np.array([1.5, -2.0], np.float32)


@dataclass(frozen=True)
class Place:
    """A directory with the files of one side."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "certificate.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    @property
    def authorities(self) -> Path:
        return self.directory / "authorities.pem"

    def fill(self, own: trustme.CA, trusted: trustme.CA, *names: str) -> "Place":
        """A new certificate by `own`, and whom to trust."""
        issued = own.issue_cert(*names)
        self.directory.mkdir(exist_ok=True)
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        for path, content in (
            (self.certificate, chain),
            (self.key, issued.private_key_pem.bytes()),
            (self.authorities, trusted.cert_pem.bytes()),
        ):
            written = path.with_suffix(".new")
            written.write_bytes(content)
            written.replace(path)
        return self

    @property
    def files(self) -> TlsFiles:
        return TlsFiles(self.authorities, self.certificate, self.key)

    def ssl_config(self, *, client_verify: bool) -> Path:
        """The text file of TensorFlow Serving's SSLConfig for these files."""
        fields = {
            "server_key": self.key,
            "server_cert": self.certificate,
            "custom_ca": self.authorities,
        }
        lines = [f'{name}: "{pem(path)}"' for name, path in fields.items()]
        lines.append(f"client_verify: {str(client_verify).lower()}")
        config = self.directory / "ssl.config"
        config.write_text("\n".join(lines))
        return config


def pem(path: Path) -> str:
    return path.read_text().replace("\n", "\\n")


@dataclass(frozen=True)
class Sides:
    """Two authorities, one for servers and one for gateways, and what each signed."""

    servers: trustme.CA
    gateways: trustme.CA
    server: Place
    gateway: Place


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    servers, gateways = trustme.CA(), trustme.CA()
    return Sides(
        servers,
        gateways,
        Place(tmp_path / "server").fill(servers, gateways, SERVER, "127.0.0.1"),
        Place(tmp_path / "gateway").fill(gateways, servers, "gateway.test"),
    )


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("echo")
    write_echo(base / "3")
    return base


@contextlib.contextmanager
def echo_server(echo: Path, sides: Sides, port: int = 0) -> Iterator[ModelServer]:
    """The embedded server, which lets nobody in without a certificate."""
    config = sides.server.ssl_config(client_verify=True)
    flags = {"model_name": "echo", "model_base_path": echo, "ssl_config_file": config}
    with starting(**flags, port=port) as server:
        yield server


@contextlib.contextmanager
def client_of(
    address: tuple[str, int], files: TlsFiles | None, name: str = SERVER
) -> Iterator[ModelClient]:
    tls = None if files is None else ClientTls(files, name)
    client = ModelClient(address, max_retries=0, tls=tls)
    try:
        yield client
    finally:
        client.close()


def echoes(client: ModelClient, spec: ModelSpec = MODEL) -> bool:
    answer = client.predict(spec, "float32", {"x": NUMBERS}, Deadline.after(20))
    return bool(answer.outputs["y"].tolist() == NUMBERS.tolist())


def test_both_sides_are_proven_and_every_sort_of_call_goes_through(
    echo: Path, sides: Sides
) -> None:
    with echo_server(echo, sides) as server:
        address = ("127.0.0.1", server.port)
        with client_of(address, sides.gateway.files) as client:
            assert echoes(client)
            assert client.status("echo", Deadline.after(20))[0].state == "AVAILABLE"
        with client_of(address, sides.gateway.files, "127.0.0.1") as client:
            assert echoes(client), "an address is proven by the certificate too"
        refused: dict[str, tuple[TlsFiles | None, str]] = {
            "no TLS": (None, ""),
            "no certificate": (TlsFiles(sides.gateway.authorities), SERVER),
            "another name": (sides.gateway.files, "other.test"),
            "another server authority": (
                TlsFiles(sides.server.authorities, sides.gateway.certificate, sides.gateway.key),
                SERVER,
            ),
            "a certificate of another authority": (
                TlsFiles(sides.gateway.authorities, sides.server.certificate, sides.server.key),
                SERVER,
            ),
        }
        for what, (files, name) in refused.items():
            with client_of(address, files, name) as client:
                with pytest.raises(ModelUnavailable):
                    pytest.fail(f"with {what}: {echoes(client)}")
                with pytest.raises(ModelUnavailable):
                    pytest.fail(f"with {what}: {client.status('echo', Deadline.after(20))}")


def test_exchanged_files_are_used_for_new_connections_without_a_restart(
    echo: Path, sides: Sides
) -> None:
    """Each side gets a certificate of a new authority, as when everything is rotated at once."""
    with echo_server(echo, sides) as server:
        port = server.port
        with client_of(("127.0.0.1", port), sides.gateway.files) as client:
            assert echoes(client)
            server.terminate()
            server.process.wait()
            servers, gateways = trustme.CA(), trustme.CA()
            sides.server.fill(servers, gateways, SERVER)
            with echo_server(echo, sides, port) as renewed:
                assert renewed.port == port
                with pytest.raises(ModelUnavailable):
                    pytest.fail(str(client.status("echo", Deadline.after(20))))
                sides.gateway.fill(gateways, servers, "gateway.test")
                wait_until(lambda: says_its_state(client), what="the server's state")
                assert echoes(client)
                assert echoes(client, ModelSpec("echo", 3))


def says_its_state(client: ModelClient) -> bool:
    with contextlib.suppress(ModelUnavailable):
        return bool(client.status("echo", Deadline.after(20)))
    return False


def test_files_that_cannot_be_used_are_left_until_they_can(
    sides: Sides, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ClientTls(sides.gateway.files, SERVER)
    first = tls.contents
    assert not tls.refresh()
    sides.gateway.certificate.write_text("half a file")
    assert not tls.refresh()
    assert tls.contents == first
    assert "not used yet" in caplog.text
    sides.gateway.fill(sides.gateways, sides.servers, "gateway.test")
    assert tls.refresh()
    assert tls.contents != first
    assert not tls.refresh()
    sides.gateway.key.unlink()
    assert not tls.refresh()


def test_the_key_of_another_certificate_is_not_used(sides: Sides) -> None:
    files = TlsFiles(sides.gateway.authorities, sides.gateway.certificate, sides.server.key)
    with pytest.raises(ValueError, match="are not a certificate in PEM and its key"):
        ClientTls(files, SERVER)


def test_a_passphrase_is_not_asked_for(sides: Sides) -> None:
    locked = sides.gateway.directory / "locked.pem"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(sides.gateway.key)]
    command += ["-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ValueError, match="without a passphrase"):
        ClientTls(TlsFiles(sides.gateway.authorities, sides.gateway.certificate, locked), SERVER)
    with pytest.raises(InvalidSetting, match=r"TF_SERVING_KEY_FILE=.*without a passphrase"):
        Settings.from_environment({"TF_SERVING_KEY_FILE": str(locked)})


def environment(sides: Sides, *names: str) -> dict[str, str]:
    known = {
        "TF_SERVING_CA_FILE": str(sides.gateway.authorities),
        "TF_SERVING_CERTIFICATE_FILE": str(sides.gateway.certificate),
        "TF_SERVING_KEY_FILE": str(sides.gateway.key),
    }
    return {name: known[name] for name in known if name in names}


CA, CERTIFICATE, KEY = (
    "TF_SERVING_CA_FILE",
    "TF_SERVING_CERTIFICATE_FILE",
    "TF_SERVING_KEY_FILE",
)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ((CA, CERTIFICATE), f"{CERTIFICATE} and {KEY} must be set together"),
        ((CA, KEY), f"{CERTIFICATE} and {KEY} must be set together"),
        ((CERTIFICATE, KEY), f"{CERTIFICATE} needs {CA} to be set"),
    ],
)
def test_settings_of_tls_must_fit_each_other(
    sides: Sides, names: tuple[str, ...], line: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.from_environment(environment(sides, *names))
    assert str(caught.value) == line


def test_a_key_that_is_not_the_certificates_ends_the_start(sides: Sides) -> None:
    wrong = {**environment(sides, CA, CERTIFICATE), KEY: str(sides.server.key)}
    with pytest.raises(InvalidSetting, match=f"^{CERTIFICATE}: .* are not a certificate"):
        Settings.from_environment(wrong)


def test_several_addresses_need_the_name_that_proves_them(sides: Sides) -> None:
    several = {"TF_SERVING_HOST": "10.0.0.1:8500,10.0.0.2:8500", **environment(sides, CA)}
    with pytest.raises(InvalidSetting, match=f"^{CA} needs TF_SERVING_NAME"):
        Settings.from_environment(several)
    settings = Settings.from_environment({**several, "TF_SERVING_NAME": SERVER})
    assert settings.tf_serving_tls == TlsFiles(sides.gateway.authorities)


def test_without_the_settings_there_is_no_tls() -> None:
    assert Settings.from_environment({}).tf_serving_tls is None
    with StubServing() as stub, client_of(stub.address, None) as client:
        assert client.status("clothing-model", Deadline.after(20))


def test_a_gateway_predicts_over_tls_and_follows_its_files(tmp_path: Path, sides: Sides) -> None:
    command = [python("model"), "-m", "tests.support.gray_models", str(tmp_path / "models")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    model = next(each for each in MODELS if (each.name, each.version) == ("sized", 1))
    base = tmp_path / "sized"
    shutil.copytree(tmp_path / "models" / "server-1" / "sized" / "1", base / "1")
    config = sides.server.ssl_config(client_verify=True)
    settings: dict[str, Any] = {**environment(sides, CA, CERTIFICATE, KEY), "models": "sized"}
    with (
        starting(model_name="sized", model_base_path=base, ssl_config_file=config) as server,
        gateway(("127.0.0.1", server.port), tf_serving_name=SERVER, **settings) as started,
    ):
        answer = started.predict({"image": GRAY})
        assert answer.status == 200
        assert answer.json == pytest.approx(model.scores(100), abs=0.01)

        sides.gateway.certificate.write_text("half of an exchange")
        (worker,) = started.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: started.workers() not in ([], [worker]), what="another worker")
        assert started.predict({"image": GRAY}).status == 200, "with what was there before"

        sides.gateway.fill(sides.gateways, sides.servers, "gateway.test")
        log = started.process.lines
        wait_until(lambda: any("changed files of TLS are used" in line for line in log))
        assert started.predict({"image": GRAY}).status == 200


GRAY = "Qk02AAAAAAAAADYAAAAoAAAAAQAAAAEAAAABABgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAZGRkAA=="
"""A picture of one pixel of the gray level 100, as BMP, in base64."""
