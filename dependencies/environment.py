"""Make one of the project's environments from its lock: `python3 dependencies/environment.py NAME`.

Runs on whatever Python the machine has, so it uses nothing outside the standard library
and no syntax newer than 3.6: an old Python must reach the sentence that refuses it.
"""

import os
import shutil
import subprocess
import sys
import time

OLDEST, NEWEST = (3, 11), (3, 13)
HERE = os.path.dirname(os.path.abspath(__file__))
ENVIRONMENTS = os.path.join(os.path.dirname(HERE), ".venv")


def fail(sentence):
    # type: (str) -> None
    """End with one sentence that says what is wrong and what to do."""
    sys.exit("tensorgate: " + sentence)


def check_python():
    # type: () -> None
    """End unless this Python is one the locks are made for and can make environments."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        fail(
            "this is Python %d.%d, and Tensorgate needs Python 3.11, 3.12 or 3.13:"
            " install one and run `make PYTHON=python3.12 run`." % version
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail(
            "this Python has no venv module: install it (on Debian and Ubuntu:"
            " `sudo apt-get install python%d.%d-venv`) and run the command again." % version
        )


def make(name):
    # type: (str) -> None
    """Make .venv/NAME with exactly what dependencies/NAME.txt lists, from wheels."""
    lock = os.path.join(HERE, name + ".txt")
    home = os.path.join(ENVIRONMENTS, name)
    sys.stdout.write("tensorgate: making the environment .venv/%s (a few minutes, once)\n" % name)
    sys.stdout.flush()
    shutil.rmtree(home, ignore_errors=True)
    subprocess.check_call([sys.executable, "-m", "venv", home])
    # --no-deps: the lock is the whole list, and tensorflow-serving-api's requirement of
    # a second TensorFlow is overridden in it (overrides.txt).
    command = [os.path.join(home, "bin", "python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "-r", lock]
    if subprocess.call(command) != 0:
        fail(
            "the packages of dependencies/%s.txt could not be installed (pip's own message is"
            " above): check that this machine reaches a package index and run the command"
            " again." % name
        )
    with open(stamp_of(name), "w"):
        pass


def stamp_of(name):
    # type: (str) -> str
    """The file that says, by its time, when .venv/NAME was whole."""
    return os.path.join(ENVIRONMENTS, name, ".stamp")


def make_alone(name):
    # type: (str) -> None
    """Make .venv/NAME unless another `make`, which is waited for, has made it meanwhile."""
    import fcntl

    os.makedirs(ENVIRONMENTS, exist_ok=True)
    stamp = stamp_of(name)
    begun = time.time()
    with open(os.path.join(ENVIRONMENTS, name + ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.stdout.write("tensorgate: waiting for another make that makes .venv/%s\n" % name)
            sys.stdout.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not (os.path.exists(stamp) and os.path.getmtime(stamp) > begun):
            make(name)


if __name__ == "__main__":
    check_python()
    try:
        make_alone(sys.argv[1])
    except KeyboardInterrupt:
        fail("stopped before the environment was whole: run the command again to make it.")
