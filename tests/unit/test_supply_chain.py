"""Every package's licence is known and asks for a notice only; images are listed; audits are told.

What an image has is also seen in tests/cluster/test_containers.py: no compiler, no pip, nothing
but its lock's packages.
"""

import json
from email.message import Message
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from dependencies.audit import verdict
from dependencies.licenses import (
    ACCEPTED,
    ENVIRONMENTS,
    PAGE,
    READ,
    UnfitLicense,
    license_of,
    licenses,
    locked,
)
from dependencies.sbom import IMAGES, write


def metadata(**fields: str) -> Message:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "MIT"}, "MIT"),
        ({"License_Expression": "GPL-3.0-only OR MIT"}, "GPL-3.0-only OR MIT"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"Classifier": "License :: OSI Approved :: BSD License"}, "BSD"),
        (
            {"License": "see the file", "Classifier": "License :: OSI Approved :: MIT License"},
            "MIT",
        ),
    ],
)
def test_a_licence_that_asks_for_a_notice_only_is_taken(
    fields: dict[str, str], expected: str
) -> None:
    assert license_of("some-package", metadata(**fields)) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"License": "UNKNOWN"},
        {"License": "Do as we say"},
        {"License_Expression": "GPL-3.0-only"},
        {"License_Expression": "LGPL-2.1-or-later"},
        {"License_Expression": "MIT AND AGPL-3.0-only"},
        {"License_Expression": "MPL-2.0"},
        {"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"},
        {"Classifier": "License :: Other/Proprietary License"},
    ],
)
def test_an_unknown_or_copyleft_licence_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(UnfitLicense, match="some-package"):
        license_of("some-package", metadata(**fields))


def test_every_locked_package_is_on_the_page_with_its_licence() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if " | " in line][1:]
    listed = {name.removeprefix("| "): licence for name, licence, _ in rows}
    for name, by in licenses().items():
        assert {listed.get(name)} == set(by.values()), f"{name}: run `make licenses`"
    for environment in ENVIRONMENTS:
        everywhere = {name for name, every in locked(environment).items() if every}
        assert everywhere <= listed.keys(), "run `make licenses`"
    assert listed.keys() <= locked("test").keys(), "run `make licenses`"


def test_what_was_read_or_accepted_by_hand_is_still_used() -> None:
    assert READ.keys() | ACCEPTED.keys() <= locked("test").keys()
    assert not ACCEPTED.keys() & locked("gateway").keys()


def test_an_images_list_is_sound_and_has_its_locks_packages(tmp_path: Path) -> None:
    write(tmp_path)
    for image in IMAGES:
        text = (tmp_path / f"{image}.cdx.json").read_text()
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        components = json.loads(text)["components"]
        names = {each["name"] for each in components}
        assert {name for name, every in locked(image).items() if every} <= names
        assert names <= locked(image).keys()
        for each in components:
            assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"
            assert each["licenses"]
            assert all(link["hashes"] for link in each["externalReferences"])


SOUND = {"name": "a", "version": "1", "vulns": []}
KNOWN = {"name": "b", "version": "2", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found"}


def test_an_audit_that_could_not_look_a_package_up_has_not_passed() -> None:
    assert verdict([SOUND])[0] == 0
    assert verdict([SOUND, SKIPPED])[0] == 2
    assert "1 of 2 packages could not be checked" in verdict([SOUND, SKIPPED])[1]
    assert verdict([])[0] == 2


def test_an_audit_names_what_is_known_and_where_it_is_fixed() -> None:
    assert verdict([SOUND, SKIPPED, KNOWN]) == (1, "b 2: CVE-2026-1, fixed in 3")
