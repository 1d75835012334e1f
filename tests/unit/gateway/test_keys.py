"""API keys: how they are made, kept, found and taken anew."""

import base64
import contextlib
import hmac
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import keys
from gateway.keys import MOST_BYTES, MOST_KEYS, BrokenKeys, KeyRing

ROOT = Path(__file__).parents[3]
KEY = "tensorgate_" + 43 * "A"
DIGEST = "d49a4677dd77c7190075934b0407730770caefe56e816384f258d542241c27c9"
"""What `printf tensorgate_AAAA… | sha256sum` says of the key."""
OTHER = "tensorgate_" + 43 * "B"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"shop sha256:{DIGEST}\n")
    return path


def put(path: Path, text: str) -> None:
    """Replace the file at one go, as its owner should."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def look_twice(ring: KeyRing) -> None:
    ring.refresh()
    ring.refresh()


def test_a_key_is_256_random_bits() -> None:
    made = {keys.new_key() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        secret = key.removeprefix("tensorgate_")
        assert len(base64.urlsafe_b64decode(secret + "=")) == 32


def test_the_command_prints_a_key_once_and_the_line_that_keeps_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway.keys", "new", "shop"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    key, line = ended.stdout.splitlines()
    path = tmp_path / "keys"
    path.write_text(line + "\n")

    assert KeyRing(path).find(key) == "shop"
    assert key not in line
    assert key not in ended.stderr


@pytest.mark.parametrize("arguments", [[], ["new"], ["new", "a b"], ["new", ""], ["old", "shop"]])
def test_the_command_says_how_it_is_used(arguments: list[str]) -> None:
    assert keys.main(arguments) == 2


def test_a_key_is_found_by_its_hash(file: Path) -> None:
    ring = KeyRing(file)
    assert ring.find(KEY) == "shop"
    assert ring.find(OTHER) is None


@pytest.mark.parametrize("shown", ["", "shop", DIGEST, KEY[:-1], KEY + "A", KEY + "\n", "ä" * 54])
def test_what_does_not_look_like_a_key_is_none(file: Path, shown: str) -> None:
    assert KeyRing(file).find(shown) is None


def test_a_password_is_no_key_though_its_hash_is_in_the_file(file: Path) -> None:
    file.write_text(
        "admin sha256:" + "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
    )
    assert KeyRing(file).find("password") is None


def test_all_keys_are_compared_in_constant_time_wherever_the_right_one_is(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"key-{number}" for number in range(10)]
    lines = [keys.line_of(name, keys.new_key()) for name in names]
    put(file, "\n".join([f"shop sha256:{DIGEST}", *lines]))
    ring = KeyRing(file)
    compared = []
    genuine = hmac.compare_digest

    def compare(left: bytes, right: bytes) -> bool:
        compared.append(left)
        return genuine(left, right)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert ring.find(KEY) == "shop"
    assert len(compared) == 11


def test_empty_lines_and_remarks_are_left_out() -> None:
    content = f"# who may call\n\n  shop\tsha256:{DIGEST} \r\n".encode()
    assert [key.name for key in keys.parse(content)] == ["shop"]


MANY = "".join(f"key-{number} sha256:{number:064x}\n" for number in range(MOST_KEYS + 1))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        (f"shop {DIGEST}\n", "line 1 is not a name"),
        (f"shop {KEY}\n", "line 1 is not a name"),
        (f"{KEY}\n", "line 1 is not a name"),
        (f"shop sha256:{DIGEST}\nother sha256:{DIGEST[:-1]}\n", "line 2 is not a name"),
        (f"shop sha256:{DIGEST.upper()}\n", "line 1 is not a name"),
        (f"a b sha256:{DIGEST}\n", "line 1 is not a name"),
        (f"{'a' * 65} sha256:{DIGEST}\n", "line 1 is not a name"),
        (f"shop sha256:{DIGEST}\nshop sha256:{'0' * 64}\n", "gives two keys one name"),
        (f"shop sha256:{DIGEST}\nother sha256:{DIGEST}\n", "gives one key two names"),
        (MANY, f"more than {MOST_KEYS} keys"),
        ("#" * (MOST_BYTES + 1), f"more than {MOST_BYTES} bytes"),
    ],
)
def test_a_broken_file_is_refused_and_none_of_it_repeated(
    file: Path, text: str, reason: str
) -> None:
    file.write_text(text)
    with pytest.raises(BrokenKeys, match=reason) as caught:
        KeyRing(file)
    assert KEY not in str(caught.value)
    assert DIGEST[:8] not in str(caught.value)


@given(st.binary() | st.text("ab# \t\r\n:0123456789shop", max_size=200).map(str.encode))
def test_any_bytes_are_keys_or_broken(content: bytes) -> None:
    with contextlib.suppress(BrokenKeys):
        assert keys.parse(content)


def test_a_directory_and_a_pipe_are_no_files_of_keys(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        for path in (tmp_path, tmp_path / "pipe"):
            with pytest.raises(BrokenKeys, match="not a plain file"):
                KeyRing(path)
        with pytest.raises(BrokenKeys, match="No such file"):
            KeyRing(tmp_path / "missing")
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_keys_are_changed_without_a_restart(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = KeyRing(file)
    put(file, keys.line_of("shop-2", OTHER))
    with caplog.at_level(logging.INFO):
        look_twice(ring)

    assert ring.find(OTHER) == "shop-2"
    assert ring.find(KEY) is None
    (record,) = caplog.records
    assert record.__dict__["fields"]["new"] == ["shop-2"]
    assert record.__dict__["fields"]["gone"] == ["shop"]


def test_a_link_that_is_turned_to_another_file_is_a_change(tmp_path: Path) -> None:
    """As the kubelet changes a Secret: `keys` leads through `..data`, which is replaced."""
    for name, key in (("first", KEY), ("second", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(keys.line_of("shop", key))
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "keys").symlink_to("..data/keys")
    ring = KeyRing(tmp_path / "keys")
    (tmp_path / "..data_tmp").symlink_to("second")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    look_twice(ring)

    assert ring.find(OTHER) == "shop"
    assert ring.find(KEY) is None


@pytest.mark.parametrize("broken", ["", "nonsense", None])
def test_a_file_that_breaks_keeps_the_keys_and_is_told_loudly_once_and_again_later(
    file: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(file)
    if broken is None:
        file.unlink()
    else:
        put(file, broken)
    for _ in range(5):
        ring.refresh()

    assert ring.find(KEY) == "shop"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the keys before it stay" in record.getMessage()
    ring._complain_again = 0.0
    ring.refresh()
    assert len(caplog.records) == 2


def test_a_file_that_was_repaired_is_taken_and_one_that_breaks_again_is_told_again(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(file)
    right = file.read_text()
    for text in ("nonsense", right, "nonsense"):
        put(file, text)
        look_twice(ring)
    put(file, keys.line_of("shop-2", OTHER))
    look_twice(ring)

    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 2
    assert ring.find(OTHER) == "shop-2"


def test_half_of_a_file_that_is_being_written_is_not_taken(file: Path) -> None:
    whole = keys.line_of("shop-2", OTHER) + f"\nshop sha256:{DIGEST}\n"
    ring = KeyRing(file)
    file.write_text(whole[: whole.index("\n") + 1])
    ring.refresh()
    assert ring.find(KEY) == "shop"
    file.write_text(whole)
    look_twice(ring)

    assert (ring.find(KEY), ring.find(OTHER)) == ("shop", "shop-2")
