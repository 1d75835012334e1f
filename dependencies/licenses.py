"""Derive docs/licenses.md from the environments that the locks made: `make licenses`.

A licence that this file does not know, or that asks for more than a notice, is an error: it is
looked at by a person, and then stands here.
"""

import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "licenses.md"
ENVIRONMENTS = ("gateway", "model", "test")

PERMISSIVE = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT",
        "MIT-0", "MIT-CMU", "PSF-2.0", "WTFPL", "Zlib",
    }
)  # fmt: skip
"""By their SPDX identifiers; BSD is where a package does not say which of them it has."""

ACCEPTED: Mapping[str, str] = {
    "certifi": "MPL-2.0",
    "fqdn": "MPL-2.0",
    "hypothesis": "MPL-2.0",
    "pathspec": "MPL-2.0",
}
"""Packages whose licence asks that changes to their own files stay open; none of them is changed.

certifi is a list of certificate authorities in the model server's image, the others are tools of
the tests. The gateway has none of them.
"""

WORDS: Mapping[str, str] = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSFL": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What packages from before SPDX write, and what they mean."""

READ: Mapping[str, str] = {
    "atheris": "Apache-2.0",
    "keras-image-helper": "WTFPL",
    "namex": "Apache-2.0",
    "requests-oauthlib": "ISC",
}
"""Packages that name no licence, or two, with what the file of their licence says."""


class UnfitLicense(Exception):
    """A licence that a person must look at first."""


class Metadata(Protocol):
    """What is asked of a package's metadata."""

    def get_all(self, name: str, failobj: list[str]) -> list[str]:
        """Every field of that name."""


def license_of(package: str, metadata: Metadata) -> str:
    """The package's licence as an SPDX expression.

    Raises:
        UnfitLicense: it is unknown, or neither permissive nor accepted for this package.
    """
    found = READ.get(package) or _named(metadata)
    if not found:
        raise UnfitLicense(f"{package} names no licence: read its file, and write it to READ")
    if not permits(found) and ACCEPTED.get(package) != found:
        raise UnfitLicense(f"{package} is under {found!r}, which is not in PERMISSIVE or ACCEPTED")
    return found


def _named(metadata: Metadata) -> str:
    """The expression, else the field in words, else the classifiers; the first that is known."""
    for expression in metadata.get_all("License-Expression", []):
        return expression
    words = [line.partition("\n")[0] for line in metadata.get_all("License", [])]
    classifiers = metadata.get_all("Classifier", [])
    words += [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")]
    known = [WORDS.get(word, word) for word in words]
    return next((each for each in known if permits(each) or each in ACCEPTED.values()), "")


def permits(expression: str) -> bool:
    """Whether one of the alternatives of an SPDX expression is permissive in all its parts."""
    alternatives = re.split(r"\s+OR\s+", expression.replace("(", "").replace(")", ""))
    return any(set(re.split(r"\s+AND\s+", each)) <= PERMISSIVE for each in alternatives)


def canonical(name: str) -> str:
    """The package's name as the locks write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(environment: str) -> dict[str, bool]:
    """The packages of a lock, and whether each is for every platform and Python."""
    lines = (HERE / f"{environment}.txt").read_text().splitlines()
    heads = [line for line in lines if "==" in line and not line.startswith((" ", "#"))]
    return {canonical(line.partition("==")[0]): ";" not in line for line in heads}


def installed(environment: str) -> Iterator[tuple[str, Message]]:
    """The packages of an environment's lock that it has here, with their metadata."""
    home = HERE.parent / ".venv" / environment / "lib"
    places = [str(path) for path in home.glob("python*/site-packages")]
    names = locked(environment)
    for distribution in importlib.metadata.distributions(path=places):
        name = canonical(distribution.name)
        if name in names:
            yield name, distribution.metadata  # type: ignore[misc]


def licenses() -> dict[str, dict[str, str]]:
    """For each package its licence by environment."""
    found: dict[str, dict[str, str]] = {}
    for environment in ENVIRONMENTS:
        for name, metadata in installed(environment):
            found.setdefault(name, {})[environment] = license_of(name, metadata)
    return dict(sorted(found.items()))


def page() -> str:
    """The page's text."""
    rows = [
        f"| {name} | {next(iter(by.values()))} | {', '.join(by)} |"
        for name, by in licenses().items()
    ]
    return "\n".join([HEAD, *rows, ""])


HEAD = """# Licences

The Python packages of each environment, derived by `make licenses` from what they say of
themselves. A test fails on one that is unknown or asks for more than a notice. `gateway` is what
the gateway's image has, `model` what the model server's image has; `test` are tools that no image
has. The images' other contents are those of the base images that you choose.

| package | licence | environments |
|---|---|---|"""


if __name__ == "__main__":
    try:
        PAGE.write_text(page())
    except UnfitLicense as error:
        sys.exit(f"tensorgate: {error}")
