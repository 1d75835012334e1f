"""`python -m model.server`."""

import sys
from importlib import metadata

from model.server.flags import FlagError, parse_flags, usage


def run() -> int:
    """Read the flags first: a wrong one should not wait for TensorFlow's import."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(usage())
        return 0
    try:
        flags = parse_flags(sys.argv[1:])
    except FlagError as error:
        print(f"{error}\n`python -m model.server --help` lists the flags.", file=sys.stderr)
        return 2
    if flags.version:
        print(versions())
        return 0
    from model.quiet import import_tensorflow  # noqa: PLC0415

    import_tensorflow()
    from model.server.main import main  # noqa: PLC0415

    return main(flags)


def versions() -> str:
    """What `--version` prints, without TensorFlow's import."""
    installed = {
        distribution.name: distribution.version for distribution in metadata.distributions()
    }
    runtime = installed.get("tensorflow") or installed.get("tensorflow_cpu")
    served = installed.get("tensorflow-serving-api")
    return f"TensorFlow ModelServer: {served} (embedded)\nTensorFlow Library: {runtime}"


if __name__ == "__main__":
    sys.exit(run())
