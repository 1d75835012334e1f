"""`python -m model export …` and `python -m model inspect …`."""

import argparse
import sys
from pathlib import Path

from model.quiet import import_tensorflow


def main(arguments: list[str]) -> int:
    """Run one command; 0 when it succeeded, 1 with one sentence when it did not."""
    options = parser().parse_args(arguments)
    import_tensorflow()
    from model.contract import UnfitContract  # noqa: PLC0415  after TensorFlow's notes
    from model.export import ExportFailed  # noqa: PLC0415
    from model.saved_model import NotASavedModel  # noqa: PLC0415

    try:
        options.run(options)
    except (ExportFailed, NotASavedModel, UnfitContract) as error:
        print(f"model {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="make a version directory of a trained model")
    export.add_argument("source", metavar="FILE", type=Path, help=".keras, .h5 or SavedModel")
    export.add_argument("--contract", type=Path, required=True, help="the contract's JSON file")
    export.add_argument("--name", required=True, help="the name that the model is served by")
    export.add_argument("--output", metavar="DIR", type=Path, required=True)
    export.add_argument("--version", type=version, help="default: one above the highest there")
    export.set_defaults(run=run_export)
    inspect = commands.add_parser("inspect", help="show a version directory")
    inspect.add_argument("directory", metavar="DIR", type=Path)
    inspect.add_argument("--check", action="store_true", help="fail unless the contract fits")
    inspect.set_defaults(run=run_inspect)
    return root


def version(text: str) -> int:
    """A version number: a whole number from 1, as TensorFlow Serving reads a directory's name."""
    if not text.isdigit() or not 1 <= int(text) < 2**63:
        raise argparse.ArgumentTypeError("a version is a whole number from 1")
    return int(text)


def run_export(options: argparse.Namespace) -> None:
    """Export one version."""
    from model.export import Request, export_model  # noqa: PLC0415  loads TensorFlow

    export_model(
        Request(options.source, options.contract, options.name, options.output, options.version)
    )


def run_inspect(options: argparse.Namespace) -> None:
    """Show one version directory, and check it when asked to."""
    from model.inspect import check, describe  # noqa: PLC0415  loads TensorFlow

    print(describe(options.directory))
    if options.check:
        check(options.directory)
        print("the contract fits")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
