"""Generate the Python code of this directory's .proto files.

Run it from the project's root: `python -m gateway.model_client.protos.generate`. It needs
grpcio-tools, which only the tests' environment has.
"""

import importlib.resources
import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).parent
ROOT = PROTOS.parents[2]


def generate(output: Path) -> None:
    """Write *_pb2.py and *_pb2.pyi below the output directory, at the paths they have here.

    Raises:
        ImportError: grpcio-tools is not installed.
        CalledProcessError: protoc refused a .proto file and has printed why.
    """
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    sources = sorted(str(path.relative_to(ROOT)) for path in PROTOS.glob("*.proto"))
    options = [f"--proto_path={ROOT}", f"--proto_path={well_known}"]
    options += [f"--python_out={output}", f"--pyi_out={output}"]
    # A process of its own: protoc and TensorFlow in one process crash it.
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *sources], check=True)


if __name__ == "__main__":
    generate(ROOT)
