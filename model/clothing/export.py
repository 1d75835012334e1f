"""Export the clothing model: `python -m model.clothing.export --output DIR`.

Makes `DIR/clothing-model/VERSION`, and nothing when the version there was made from the same
weights, contract and code. Something changed makes a new version: no number is used twice.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from model.quiet import import_tensorflow

NAME = "clothing-model"
HERE = Path(__file__).parent
WEIGHTS = HERE / "clothing.keras"
CONTRACT = HERE / "contract.json"
CODE = tuple(HERE.parent / name for name in ("contract.py", "export.py", "saved_model.py"))
RECORD = ".exported.json"
"""Beside the versions: which one was made last, and from what."""


def digest() -> str:
    """What an export is made from, as SHA-256."""
    parts = [hashlib.sha256(path.read_bytes()).digest() for path in (WEIGHTS, CONTRACT, *CODE)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def current_version(output: Path) -> Path | None:
    """The version directory that was made from what is here now, if there is one."""
    try:
        record = json.loads((output / NAME / RECORD).read_text())
        directory = output / NAME / str(int(record["version"]))
    except (OSError, ValueError, KeyError):
        return None
    whole = (directory / "saved_model.pb").is_file()
    return directory if whole and record.get("digest") == digest() else None


def export(output: Path, version: int | None) -> Path:
    """Export a new version and write down what it was made from."""
    import_tensorflow()
    from model.export import Request, export_model  # noqa: PLC0415  loads TensorFlow

    directory = export_model(Request(WEIGHTS, CONTRACT, NAME, output, version))
    record = {"version": int(directory.name), "digest": digest()}
    (output / NAME / RECORD).write_text(json.dumps(record) + "\n")
    return directory


def main(arguments: list[str]) -> None:
    """Export unless the version that is asked for, or the last one, is up to date."""
    parser = argparse.ArgumentParser(prog="python -m model.clothing.export", description=__doc__)
    parser.add_argument("--output", metavar="DIR", type=Path, required=True)
    parser.add_argument("--version", type=int, help="default: one above the highest there")
    options = parser.parse_args(arguments)
    current = current_version(options.output)
    if current is not None and options.version in (None, int(current.name)):
        print(f"{current} is up to date")
        return
    export(options.output, options.version)


if __name__ == "__main__":
    main(sys.argv[1:])
