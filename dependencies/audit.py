"""Ask an index of known vulnerabilities about every locked package: `make audit`.

pip-audit asks, and calls it a success when no package could be looked up; here that is a failure.
Ends with 0 when nothing is known against any package, with 1 when something is, and with 2 when not
all of them could be checked.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOCKS = ("gateway", "model", "test")


def ask() -> list[dict[str, Any]]:
    """What pip-audit says of each package of the locks.

    Raises:
        ValueError: it said nothing that can be read.
    """
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip"]
    command += ["--progress-spinner", "off", "--format", "json"]
    for lock in LOCKS:
        command += ["-r", str(HERE / f"{lock}.txt")]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    return found


def verdict(packages: list[dict[str, Any]]) -> tuple[int, str]:
    """The exit code and what to print."""
    known = [
        f"{each['name']} {each['version']}: {found['id']}, fixed in "
        f"{', '.join(found['fix_versions']) or 'no version'}"
        for each in packages
        for found in each.get("vulns", [])
    ]
    unchecked = [each["name"] for each in packages if "skip_reason" in each]
    if known:
        return 1, "\n".join(known)
    if unchecked or not packages:
        return 2, (
            f"{len(unchecked)} of {len(packages)} packages could not be checked: this machine "
            "reaches no index of known vulnerabilities. Run `make audit` where one can be reached."
        )
    return 0, f"Nothing is known against any of the {len(packages)} packages."


if __name__ == "__main__":
    try:
        code, text = verdict(ask())
    except ValueError:
        code, text = verdict([])
    print(text)
    sys.exit(code)
