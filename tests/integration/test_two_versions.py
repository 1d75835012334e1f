"""Two versions behind one name while a rollout runs: no answer is mixed, none is lost.

Real model servers, the real gateway. Each score says by which version, from which gray level and
with which preprocessing it was made, so that a mixed answer cannot look right.
"""

import io
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.support.gray_models import MODELS
from tests.support.processes import (
    ROOT,
    Answer,
    Gateway,
    gateway,
    model_server,
    python,
    wait_until,
)

VERSIONS = {(model.name, model.version): model for model in MODELS}
CALLERS = 4


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models for each of the two servers."""
    directory = tmp_path_factory.mktemp("models")
    command = [python("model"), "-m", "tests.support.gray_models", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return directory


def config(directory: Path) -> str:
    """The flag for a server of both models below the directory."""
    file = directory / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "{directory / name}" model_platform: "tensorflow" }}'
        for name in ("sized", "scaled")
    )
    file.write_text(f"model_config_list {{ {models} }}")
    return f"--model_config_file={file}"


@pytest.fixture(scope="module")
def two_servers(exported: Path) -> Iterator[Gateway]:
    """A gateway in front of a server that has only version 1 and one that has only version 2."""
    first = model_server(config(exported / "server-1"))
    second = model_server(config(exported / "server-2"))
    with first as one, second as two, gateway(one, two, models="sized,scaled") as started:
        yield started


def picture(level: int) -> bytes:
    """A gray picture of one level, as PNG."""
    file = io.BytesIO()
    Image.new("L", (40, 30), level).save(file, "PNG")
    return file.getvalue()


def ask(asked: Gateway, level: int, query: str) -> Answer:
    return asked.ask("POST", f"/predict?{query}", picture(level), content_type="image/png")


def check(answer: Answer, level: int) -> int:
    """The version of an answer that must be wholly that version's."""
    assert answer.status == 200, answer.body
    version = int(answer.headers["x-model-version"])
    model = VERSIONS[answer.headers["x-model-name"], version]
    assert list(answer.json) == list(model.labels)
    assert answer.json == pytest.approx(model.scores(level), abs=0.01)
    return version


@pytest.mark.parametrize(("name", "answering"), [("sized", {2}), ("scaled", {1, 2})])
def test_no_answer_is_mixed_and_none_is_lost(
    two_servers: Gateway, name: str, answering: set[int]
) -> None:
    """The server of version 1 refuses a tensor of another size: then version 2 is named."""
    levels = [level % 256 for level in range(0, 150 * 7, 7)]
    with ThreadPoolExecutor(CALLERS) as callers:
        answers = list(callers.map(lambda level: ask(two_servers, level, f"model={name}"), levels))
    seen = Counter(check(answer, level) for answer, level in zip(answers, levels, strict=True))
    assert sum(seen.values()) == len(levels)
    assert set(seen) == answering


@pytest.mark.parametrize("name", ["sized", "scaled"])
def test_a_list_is_answered_by_one_version(two_servers: Gateway, name: str) -> None:
    levels = (10, 120, 250)
    body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n%s\r\n'
        % picture(level)
        for level in levels
    )
    for _ in range(10):
        answer = two_servers.ask(
            "POST",
            f"/predict?model={name}",
            body + b"--xyz--\r\n",
            content_type="multipart/form-data; boundary=xyz",
        )
        assert answer.status == 200, answer.body
        model = VERSIONS[name, int(answer.headers["x-model-version"])]
        for entry, level in zip(answer.json["predictions"], levels, strict=True):
            assert list(entry["scores"]) == list(model.labels)
            assert entry["scores"] == pytest.approx(model.scores(level), abs=0.01)


@pytest.mark.parametrize("name", ["sized", "scaled"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_version_that_one_server_has_is_answered_by_it(
    two_servers: Gateway, name: str, version: int
) -> None:
    for level in range(0, 200, 10):
        assert check(ask(two_servers, level, f"model={name}&version={version}"), level) == version


def test_a_version_that_neither_has_is_not_found(two_servers: Gateway) -> None:
    for _ in range(4):
        answer = ask(two_servers, 0, "model=sized&version=3")
        assert (answer.status, answer.json["type"]) == (
            404,
            "urn:tensorgate:problem:model-not-found",
        )


@pytest.mark.case("F21")
@pytest.mark.parametrize("name", ["sized", "scaled"])
def test_a_rollout_under_load_mixes_and_loses_nothing(
    exported: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(exported / "server-1" / name / "1", tmp_path / name / "1")
    flags = (f"--model_name={name}", f"--model_base_path={tmp_path / name}")
    server = model_server(*flags, "--file_system_poll_wait_seconds=1")
    new = shutil.copytree(exported / "server-2" / name / "2", tmp_path / "2")
    callers = ThreadPoolExecutor(CALLERS)
    with server as address, gateway(address, models=name) as started, callers:
        running = [callers.submit(roll, started, level) for level in range(CALLERS)]
        wait_until(lambda: check(ask(started, 9, ""), 9) == 1, "version 1 answers")
        new.rename(tmp_path / name / "2")
        seen = sum((future.result(60) for future in running), Counter())
    assert seen[1] > 0
    assert seen[2] > 0


def roll(asked: Gateway, start: int) -> Counter[int]:
    """Ask until version 2 has answered 20 times; how often each version did."""
    seen: Counter[int] = Counter()
    while seen[2] < 20:
        level = (start * 50 + seen.total()) % 256
        seen[check(ask(asked, level, ""), level)] += 1
    return seen
