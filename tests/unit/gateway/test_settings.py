import dataclasses
import ipaddress
import os
import re
from pathlib import Path

import pytest

from gateway.cpu import available_cpus
from gateway.settings import AllowedNetwork, InvalidSetting, Settings

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)? ?\| (.+) \|$", re.MULTILINE)
WRONG = {
    "TF_SERVING_HOST": "localhost",
    "TF_SERVING_NAME": "a b",
    "MODELS": "a/b",
    "CONTRACT_FILES": "clothing-model=/nowhere/contract.json",
    "BIND": "127.0.0.1",
    "METRICS_BIND": "::1:9697",
    "ALLOWED_NETWORKS": "10.0.0.1/8",
    "ALLOWED_PORTS": "https",
    "PICTURE_HOSTS": "http://a.example",
    "ALLOWED_HOSTS": "a,,b",
    "ALLOWED_ORIGINS": "example.org",
    "LOG_LEVEL": "loud",
}
"""A wrong value of each setting; of those not listed, which are all numbers, `some` is wrong."""


def fields() -> list[str]:
    return [field.name.upper() for field in dataclasses.fields(Settings)]


def test_the_page_has_every_setting_with_its_default_and_its_sentence() -> None:
    rows = ROW.findall(PAGE.read_text())
    written = {name: (default, sentence) for name, default, sentence in rows}
    known = {
        field.name.upper(): (field.metadata["default"], field.metadata["sentence"])
        for field in dataclasses.fields(Settings)
    }
    assert written == known


@pytest.mark.parametrize("name", fields())
def test_a_wrong_value_is_refused_in_one_line_that_names_the_setting(name: str) -> None:
    value = WRONG.get(name, "some")
    with pytest.raises(InvalidSetting) as caught:
        Settings.from_environment({name: value})
    assert str(caught.value).startswith(f"{name}={value!r} ")
    assert "\n" not in str(caught.value)


def test_the_defaults_are_right_values() -> None:
    settings = Settings.from_environment({})
    assert settings.tf_serving_host == (("localhost", 8500),)
    assert settings.models == ("clothing-model",)
    assert settings.allowed_networks == ()
    assert settings.allowed_ports == {80, 443}
    assert settings.max_in_flight == 4 * settings.threads
    assert settings.circuit_min_time == settings.request_timeout / 2


def test_several_model_servers_are_ip_addresses_of_one_family() -> None:
    settings = Settings.from_environment({"TF_SERVING_HOST": "10.0.0.1:8500, 10.0.0.2:8501"})
    assert settings.tf_serving_host == (("10.0.0.1", 8500), ("10.0.0.2", 8501))
    settings = Settings.from_environment({"TF_SERVING_HOST": "[::1]:8500,[::2]:8500"})
    assert settings.tf_serving_host == (("::1", 8500), ("::2", 8500))
    for value in ("a:1,b:1", "10.0.0.1:1,[::1]:1", "10.0.0.1:1,a:1", ""):
        with pytest.raises(InvalidSetting):
            Settings.from_environment({"TF_SERVING_HOST": value})


@pytest.mark.parametrize(
    ("written", "network", "port"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", None),
        ("127.0.0.1/32:9698", "127.0.0.1/32", 9698),
        ("192.168.1.5", "192.168.1.5/32", None),
        ("fd00::/8", "fd00::/8", None),
        ("[fd00::/8]", "fd00::/8", None),
        ("[::1]:9000", "::1/128", 9000),
    ],
)
def test_a_network_is_read_with_its_port(written: str, network: str, port: int | None) -> None:
    settings = Settings.from_environment({"ALLOWED_NETWORKS": written})
    assert settings.allowed_networks == (AllowedNetwork(ipaddress.ip_network(network), port),)


@pytest.mark.parametrize("written", ["10.0.0.0/8:0", "[::1]9000", "[::1", "ten", "10.0.0.0/33"])
def test_a_network_that_cannot_be_meant_is_refused(written: str) -> None:
    with pytest.raises(InvalidSetting, match="ALLOWED_NETWORKS"):
        Settings.from_environment({"ALLOWED_NETWORKS": written})


@pytest.mark.parametrize(
    "written", ["10.0.0.0/8:80", "[fd00::/8]", "10.0.0.1/8", "0.0.0.0/0", "::/0"]
)
def test_proxies_are_networks_without_ports_and_not_everybody(written: str) -> None:
    with pytest.raises(InvalidSetting, match="TRUSTED_PROXIES"):
        Settings.from_environment({"TRUSTED_PROXIES": f"192.0.2.1,{written}"})


def test_contract_files_are_read_by_model(tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_text("{}")
    settings = Settings.from_environment({"CONTRACT_FILES": f"a={path},b={path}"})
    assert dict(settings.contract_files) == {"a": path, "b": path}


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_a_quota_bounds_the_cpus(files: dict[str, str], cpus: int, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize("content", ["max 100000", None])
def test_without_a_quota_the_affinity_counts(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "cpu.max").write_text(content)
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))


def test_name_servers_are_addresses_and_port_53_unless_said() -> None:
    written = "10.0.0.53, 10.0.0.54:5353,fd00::53,[fd00::54]:5353"
    assert Settings.from_environment({"NAME_SERVERS": written}).name_servers == (
        ("10.0.0.53", 53),
        ("10.0.0.54", 5353),
        ("fd00::53", 53),
        ("fd00::54", 5353),
    )


def test_hosts_of_pictures_are_read_in_lower_case() -> None:
    written = "Pictures.Example, *.cdn.example,10.0.0.5, FD00:0::1"
    assert Settings.from_environment({"PICTURE_HOSTS": written}).picture_hosts == (
        "pictures.example",
        "*.cdn.example",
        "10.0.0.5",
        "fd00::1",
    )
    for wrong in ("*", "a.*.example", "*example", "a..example", "a.example:80", "a.example/x"):
        with pytest.raises(InvalidSetting, match="PICTURE_HOSTS"):
            Settings.from_environment({"PICTURE_HOSTS": wrong})


def test_a_loop_token_is_random_for_each_start_unless_set() -> None:
    tokens = {Settings.from_environment({}).loop_token for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) == len("tensorgate-") + 32 for token in tokens)
    set_to = Settings.from_environment({"LOOP_TOKEN": "our-own.word_1"})
    assert set_to.loop_token == "our-own.word_1"
