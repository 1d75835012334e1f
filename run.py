"""`make run`: the clothing model behind the gateway, on this machine only.

Exports the model, starts the embedded model server, the gateway and a server of sample pictures,
waits until a prediction has gone through all of them, and says what to type. Ctrl-C stops all.
"""

import contextlib
import fcntl
import functools
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.settings import InvalidSetting, Settings

HOME = Path(__file__).resolve().parent
BUILD = HOME / "build"
MODELS = BUILD / "models"
SAMPLES = BUILD / "samples"
SAMPLE = "pants.jpg"
HOST = "127.0.0.1"
MODEL = "clothing-model"
START_SECONDS = 120.0
"""Time to load the model; a slow laptop's first import of TensorFlow is in it."""
PREDICTION_SECONDS = 30.0
"""Time from there to the first prediction."""
STOP_SECONDS = 35.0
"""Time for a process to end once it is asked to; above the gateway's own drain time-out."""
LOG_TAIL = 15
"""Lines of a log that are shown when its process ended by itself."""


class CannotRun(Exception):
    """What keeps the command from running, in one sentence that says what to do."""


@dataclass(frozen=True)
class Ports:
    """The ports used, each of which an environment variable of its name can move."""

    gateway: int
    metrics: int
    grpc: int
    rest: int
    samples: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Ports":
        """Read the ports, GATEWAY_PORT for `gateway` and so on."""
        defaults = {"gateway": 9696, "metrics": 9697, "grpc": 8500, "rest": 8501, "samples": 9698}
        ports = {}
        for name, default in defaults.items():
            variable = f"{name.upper()}_PORT"
            written = environment.get(variable, str(default))
            if not (written.isascii() and written.isdigit() and 0 < int(written) < 65536):
                raise CannotRun(f"{variable}={written!r} must be a port from 1 to 65535.")
            ports[name] = int(written)
        return cls(**ports)

    def check_free(self) -> None:
        """Raise CannotRun when a port is taken, or asked for twice."""
        for port in vars(self).values():
            same = [f"{name.upper()}_PORT" for name, each in vars(self).items() if each == port]
            if len(same) > 1:
                raise CannotRun(f"{' and '.join(same)} are both {port}: give each its own port.")
        failures = {name: reason for name, port in vars(self).items() if (reason := refusal(port))}
        if failures:
            taken = " and ".join(f"{getattr(self, name)} ({failures[name]})" for name in failures)
            others = " ".join(f"{name.upper()}_PORT={self._other(name)}" for name in failures)
            raise CannotRun(
                f"port {taken} cannot be used: stop what has it, or choose another, for example"
                f" `{others} make run`."
            )

    def _other(self, name: str) -> int:
        """A port to use in place of the named one."""
        used = set(vars(self).values())
        candidates = (getattr(self, name) + step * 1000 for step in range(1, 60))
        usable = (port for port in candidates if port < 65536 and port not in used)
        return next((port for port in usable if not refusal(port)), 0) or free_port()


def refusal(port: int) -> str:
    """Why a port cannot be listened on; empty where it can."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def free_port() -> int:
    """Any port that is free."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def python(environment: str) -> str:
    """The Python of one of the project's environments."""
    return str(HOME / ".venv" / environment / "bin" / "python")


def prepare(name: str, module: str, *arguments: str) -> None:
    """Run one of the model's commands to its end."""
    command = [python("model"), "-m", module, *arguments]
    # A session of its own: Ctrl-C is ours to pass on, or the module would print where it was.
    with subprocess.Popen(command, cwd=HOME, start_new_session=True) as process:
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code != 0:
        raise CannotRun(f"{name} failed, as said above.")


def draw_samples() -> None:
    """Draw the sample pictures; the folder appears once all of them are drawn."""
    unfinished = SAMPLES.with_name("samples.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    prepare("drawing the samples", "model.clothing.pictures", "--output", str(unfinished))
    unfinished.rename(SAMPLES)


def prepare_all() -> None:
    """Export the model and draw the samples, unless another `make run` here is at it."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "prepare.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another make run to prepare the model", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        prepare("the export of the model", "model.clothing.export", "--output", str(MODELS))
        if not SAMPLES.is_dir():
            draw_samples()


@dataclass(frozen=True)
class Server:
    """One of the processes that `make run` keeps."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """Ask the process to end, and end it when it does not."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def end(self) -> str:
        """How the process ended, with the last lines of its log."""
        code = self.process.returncode
        how = (
            f"was ended by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with code {code}"
            if code
            else "was stopped"
        )
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        tail = "".join(f"\n  {line}" for line in lines)
        return f"the {self.name} {how}. The end of {self.log.relative_to(HOME)}:{tail}"


def start(name: str, port: int, command: list[str], environment: Mapping[str, str]) -> Server:
    """Start a process whose output goes to a log of its own, called by its name and port.

    It gets a session of its own, so that Ctrl-C reaches only us and the order of stopping is ours.
    """
    log = BUILD / "log" / f"{name.replace(' ', '-')}-{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=HOME,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(name, process, log)


def start_model_server(ports: Ports) -> Server:
    """Start the embedded model server with the exported model."""
    command = [python("model"), "-m", "model.server", f"--host={HOST}"]
    command += [f"--port={ports.grpc}", f"--rest_api_port={ports.rest}"]
    command += [f"--model_name={MODEL}", f"--model_base_path={MODELS / MODEL}"]
    return start("model server", ports.grpc, command, os.environ)


def gateway_environment(ports: Ports) -> dict[str, str]:
    """The gateway's settings; a variable that is set already stays as it is set.

    Raises:
        CannotRun: the value of one is wrong.
    """
    own = ",".join(f"http://{name}:{ports.gateway}" for name in ("localhost", HOST))
    defaults = {
        "TF_SERVING_HOST": f"{HOST}:{ports.grpc}",
        "MODELS": MODEL,
        # A web page that this machine's browser shows must not use the gateway.
        "ALLOWED_HOSTS": f"localhost,{HOST}",
        "ALLOWED_ORIGINS": own,
    }
    samples = f"{HOST}/32:{ports.samples}"
    allowed = ",".join(filter(None, (samples, os.environ.get("ALLOWED_NETWORKS"))))
    fixed = {
        "BIND": f"{HOST}:{ports.gateway}",
        "METRICS_BIND": f"{HOST}:{ports.metrics}",
        "ALLOWED_NETWORKS": allowed,
    }
    environment = {**defaults, **os.environ, **fixed}
    if environment.get("API_KEYS_FILE"):
        raise CannotRun(
            "`make run` asks for a prediction without an API key: unset API_KEYS_FILE, or start the"
            " gateway with it by itself (docs/access.md)."
        )
    try:
        Settings.from_environment(environment)
    except InvalidSetting as error:
        raise CannotRun(f"{error}.") from error
    return environment


class SampleHandler(http.server.SimpleHTTPRequestHandler):
    """Answers with the files of the folder of samples, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Nothing: the gateway's log says what was fetched."""


@contextlib.contextmanager
def sample_server(port: int) -> Iterator[None]:
    """Serve the sample pictures while the context lasts."""
    handler = functools.partial(SampleHandler, directory=str(SAMPLES))
    with http.server.ThreadingHTTPServer((HOST, port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def predict(port: int, url: str) -> tuple[bool, str]:
    """Whether a prediction went through, and the gateway's answer or why there is none."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/predict", json.dumps({"url": url, "top": 3}), headers)
        response = connection.getresponse()
        text = response.read().decode()
        if response.status == 200:
            return True, text.strip()
        return False, str(json.loads(text).get("detail", text))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, str(error)
    finally:
        connection.close()


def wait_for_port(servers: list[Server], port: int) -> None:
    """Wait until something listens; the model server does once its model is loaded."""
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        check_alive(servers)
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, port), 1).close()
            return
        time.sleep(0.1)
    raise CannotRun(
        f"the model was not loaded within {START_SECONDS:.0f} s: read"
        f" {servers[0].log.relative_to(HOME)}."
    )


def first_prediction(servers: list[Server], port: int, url: str) -> str:
    """Wait for a prediction to go all the way through."""
    give_up = time.monotonic() + PREDICTION_SECONDS
    while True:
        check_alive(servers)
        done, answer = predict(port, url)
        if done:
            return answer
        if time.monotonic() > give_up:
            raise CannotRun(
                f"no prediction went through within {PREDICTION_SECONDS:.0f} s ({answer});"
                f" the logs in {servers[0].log.parent.relative_to(HOME)}/ may say more."
            )
        time.sleep(0.25)


def check_alive(servers: list[Server]) -> None:
    """Raise CannotRun when a process has ended."""
    for server in servers:
        if server.process.poll() is not None:
            raise CannotRun(server.end())


def guidance(ports: Ports) -> str:
    """What to type next."""
    gateway = f"http://localhost:{ports.gateway}"
    url = f"http://{HOST}:{ports.samples}/{SAMPLE}"
    picture = (SAMPLES / SAMPLE).relative_to(HOME)
    body = json.dumps({"url": url})
    top = json.dumps({"url": url, "top": 3, "probabilities": True})
    as_json = "-H 'Content-Type: application/json'"
    return f"""
Tensorgate is serving {MODEL} at {gateway}. Try, in another terminal:

  curl {gateway}/predict {as_json} -d '{body}'
  curl {gateway}/predict {as_json} -d '{top}'
  curl {gateway}/predict -H 'Content-Type: image/jpeg' --data-binary @{picture}
  curl {gateway}/models

More sample pictures: http://{HOST}:{ports.samples}/ (drawings: the model knows nothing else).
Logs: build/log/. Ctrl-C stops everything.
"""


def run() -> None:
    """Start everything, and wait until something ends or somebody asks to stop."""
    ports = Ports.from_environment(os.environ)
    ports.check_free()
    environment = gateway_environment(ports)
    prepare_all()
    with sample_server(ports.samples), contextlib.ExitStack() as stack:
        servers: list[Server] = []
        print("starting the model server", flush=True)
        servers.append(start_model_server(ports))
        stack.callback(servers[0].stop)
        wait_for_port(servers, ports.grpc)
        print("starting the gateway", flush=True)
        command = [python("gateway"), "-m", "gateway"]
        servers.append(start("gateway", ports.gateway, command, environment))
        stack.callback(servers[1].stop)
        url = f"http://{HOST}:{ports.samples}/{SAMPLE}"
        answer = first_prediction(servers, ports.gateway, url)
        print(f"first prediction, of {SAMPLE}: {answer}")
        print(guidance(ports), flush=True)
        while True:
            check_alive(servers)
            time.sleep(0.2)


def stop(_number: int, _frame: object) -> None:
    """Turn a signal into the exception that unwinds everything."""
    raise KeyboardInterrupt


def main() -> int:
    """Run until stopped; 1 with one sentence where that is not possible."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        run()
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
    except CannotRun as error:
        print(f"tensorgate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
