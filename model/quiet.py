"""TensorFlow without its start-up notes, which no environment variable stops in 2.21."""

import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Import TensorFlow with what it writes to standard error held back.

    Its C++ code writes notes about oneDNN to file descriptor 2 before any logging is set
    up. They are shown only if the import fails. Errors that TensorFlow logs later show as ever.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise SystemExit(
                f"tensorgate: this Python ({sys.executable}) has no {error.name}: use"
                " .venv/model/bin/python, which `make run` makes"
            ) from error
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    # Its advice to use other functions is for us, not for who runs the command.
    tensorflow.get_logger().setLevel("ERROR")
