"""Signed URLs: the signature that other tools make is taken, and nothing near it.

The signatures were made by `printf %s URL | openssl dgst -sha256 -hmac KEY`.
"""

import subprocess
from pathlib import Path

import pytest

from gateway.errors import URLNotAllowed
from gateway.scoring.fetch.addresses import FetchPolicy
from gateway.scoring.fetch.signing import is_signed
from gateway.scoring.fetch.url import join, parse
from gateway.settings import InvalidSetting, Secret, Settings

OLD, NEW = "an-old-key-of-thirty-two-characters", "a-new-key-of-thirty-two-characters!"
KEYS = (Secret(NEW.encode()), Secret(OLD.encode()))
URL = "https://pictures.example/a%20b.jpg?size=large"
BY_OLD = "5ea4be0dde192be943ac3c08cbe2545829edf18622163a689569c9ca08e82b5c"
BY_NEW = "7e5ba471d73a3d52d237e566011b5a90dff70b0248aeb1a6990443e3cda1c81d"
POLICY = FetchPolicy(frozenset({80, 443}), keys=KEYS)


@pytest.mark.parametrize("signature", [BY_OLD, BY_NEW])
def test_a_url_signed_by_any_of_the_keys_is_read_and_its_signature_not_sent(signature: str) -> None:
    parsed = parse(f"{URL}#signature={signature}", POLICY)
    assert str(parsed) == URL
    assert "signature" not in parsed.target


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}#",
        f"{URL}#signature=",
        f"{URL}#{BY_NEW}",
        f"{URL}#signature={BY_NEW.upper()}",
        f"{URL}#signature={BY_NEW[:-1]}",
        f"{URL}#signature={BY_NEW}0",
        f"{URL}#signature={BY_NEW}#",
        f"{URL}#a&signature={BY_NEW}",
        f"{URL}#signature={'0' * 64}",
        f"{URL}&x#signature={BY_NEW}",
        f"{URL.replace('https', 'http')}#signature={BY_NEW}",
        f"{URL.replace('pictures', 'Pictures')}#signature={BY_NEW}",
        f"{URL}&signature={BY_NEW}",
    ],
)
def test_a_url_that_is_not_signed_as_it_stands_is_refused(url: str) -> None:
    with pytest.raises(URLNotAllowed, match="not signed"):
        parse(url, POLICY)


def test_another_key_signs_nothing() -> None:
    assert not is_signed(f"{URL}#signature={BY_NEW}", KEYS[1:])
    assert not is_signed(f"{URL}#signature={BY_NEW}", ())


def test_a_redirect_must_be_signed_too() -> None:
    base = parse(f"{URL}#signature={BY_NEW}", POLICY)
    with pytest.raises(URLNotAllowed):
        join(base, "https://pictures.example/b.jpg", POLICY)
    with pytest.raises(URLNotAllowed):
        join(base, "/b.jpg", POLICY)
    assert str(join(base, f"{URL}#signature={BY_OLD}", POLICY)) == URL


def test_the_command_of_the_page_signs(tmp_path: Path) -> None:
    """docs/fetching.md, as a shell runs it."""
    page = (Path(__file__).parents[3] / "docs" / "fetching.md").read_text()
    _, _, rest = page.partition("```sh\nurl=")
    command, end, _ = ("url=" + rest).partition("```")
    assert end
    (tmp_path / "url-keys").write_text(NEW + "\n" + OLD + "\n")
    run = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    signed = run.stdout.strip()
    assert str(parse(signed, POLICY)) == signed.partition("#")[0]


def test_keys_come_from_a_file_and_are_in_no_text(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{NEW}\n{OLD}\n")
    settings = Settings.from_environment({"URL_KEYS_FILE": str(path)})
    assert settings.url_keys_file == KEYS
    assert NEW not in repr(settings)


@pytest.mark.parametrize("text", ["", "short\n", f"{NEW}\n\n", f"{NEW} \n", "ä" * 40, "\udcff"])
def test_a_file_without_good_keys_stops_the_start(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(InvalidSetting, match="URL_KEYS_FILE") as caught:
        Settings.from_environment({"URL_KEYS_FILE": str(path)})
    assert NEW not in str(caught.value)
