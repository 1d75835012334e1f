"""List what each image has of Python packages, as CycloneDX: `make sbom`.

One document an image, in build/sbom: the packages of its lock with the hashes that an installation
is held to, and their licences.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dependencies.licenses import canonical, licenses
from dependencies.lock import lock_path

DIRECTORY = Path(__file__).parents[1] / "build" / "sbom"
IMAGES = ("gateway", "model")


def bill(image: str) -> dict[str, Any]:
    """The document of one image: its lock's packages, of those that this platform has."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--no-validate"]
    command += ["--output-reproducible", "--spec-version", "1.6", str(lock_path(image))]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(found.stdout)
    known = {name: by[image] for name, by in licenses().items() if image in by}
    here = [each for each in document["components"] if canonical(each["name"]) in known]
    document["components"] = [
        {**each, "licenses": [_license(known[canonical(each["name"])])]} for each in here
    ]
    kept = {each["bom-ref"] for each in here}
    document["dependencies"] = [each for each in document["dependencies"] if each["ref"] in kept]
    return document


def _license(expression: str) -> dict[str, Any]:
    """A licence as CycloneDX writes it; BSD alone is no identifier of SPDX."""
    if expression == "BSD":
        return {"license": {"name": "BSD"}}
    return {"expression": expression} if " " in expression else {"license": {"id": expression}}


def write(directory: Path) -> None:
    """Write a document for each image."""
    directory.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        (directory / f"{image}.cdx.json").write_text(json.dumps(bill(image), indent=2) + "\n")


if __name__ == "__main__":
    write(DIRECTORY)
