"""A version's warm-up requests run before it is served, and a failing one fails it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from model.server import loader
from model.server.errors import ServingError
from model.server.metrics import Metrics
from model.server.predict import PredictOptions
from model.server.servable import Servable
from model.server.version_loader import LoadOptions, VersionLoader
from model.server.warmup import FILE, warm_up
from tests.support import tiny_models
from tests.support.serving_reference import row
from tests.support.tiny_models import CLASSIFY, example, predict_log

Log = prediction_log_pb2.PredictionLog


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_half_plus(tmp_path_factory.mktemp("half") / "1")


class CountingSession:
    """Counts the runs of a real session."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.runs = 0

    def run(self, *arguments: Any) -> list[Any]:
        self.runs += 1
        ran: list[Any] = self.session.run(*arguments)
        return ran

    def close(self) -> None:
        self.session.close()


@pytest.fixture(scope="module")
def servable(half: Path) -> Servable:
    bundle = loader.load(str(half), ["serve"], None)
    return Servable(1, bundle.signatures, CountingSession(bundle.session))


def warmed(
    servable: Servable, path: Path, records: Sequence[bytes], iterations: int = 0
) -> tuple[int, int]:
    """How many records there were and how many runs they made."""
    tiny_models.write_warm_up(path, records)
    session = servable.session
    assert isinstance(session, CountingSession)
    before = session.runs
    count = warm_up(servable, str(path), iterations, PredictOptions(), Metrics())
    return count, session.runs - before


def error_of(servable: Servable, path: Path, records: Sequence[bytes]) -> tuple[str, str]:
    with pytest.raises(ServingError) as caught:
        warmed(servable, path, records)
    return caught.value.code.name, caught.value.message


def log_of(kind: str, signature: str) -> Any:
    record = Log()
    request = getattr(record, kind).request
    request.model_spec.signature_name = signature
    request.input.example_list.examples.append(example(1.0))
    return record


def multi_inference_log() -> Any:
    record = Log()
    request = record.multi_inference_log.request
    task = request.tasks.add(method_name=CLASSIFY)
    task.model_spec.name, task.model_spec.signature_name = "model", "classify"
    request.input.example_list.examples.append(example(1.0))
    return record


@pytest.mark.parametrize(
    ("row_id", "record"),
    [
        ("warmup.predict", predict_log([1.0])),
        ("warmup.classify", log_of("classify_log", "classify")),
        ("warmup.regress", log_of("regress_log", "regress")),
        ("warmup.multi-inference", multi_inference_log()),
    ],
)
def test_records_of_four_kinds_run(
    servable: Servable, tmp_path: Path, row_id: str, record: Any
) -> None:
    assert row(row_id)
    assert warmed(servable, tmp_path, [record.SerializeToString()] * 2) == (2, 2)


@pytest.mark.parametrize(
    ("row_id", "kind"),
    [("warmup.session-run", "session_run_log"), ("warmup.streamed", "predict_streamed_log")],
)
def test_records_of_the_other_kinds_fail(
    servable: Servable, tmp_path: Path, row_id: str, kind: str
) -> None:
    record = Log()
    getattr(record, kind).SetInParent()
    code, text = error_of(servable, tmp_path, [record.SerializeToString()])
    assert code == row(row_id).grpc_code
    number = Log.DESCRIPTOR.fields_by_name[kind].number
    assert text == f"Unsupported log_type for warmup: {number}"


def test_no_file_and_an_empty_record_are_fine(servable: Servable, tmp_path: Path) -> None:
    assert row("warmup.file").more["path"] == FILE
    assert warmed(servable, tmp_path, []) == (0, 0)
    assert warmed(servable, tmp_path, [b""]) == (1, 0)


def test_each_record_is_repeated_as_often_as_asked(servable: Servable, tmp_path: Path) -> None:
    assert row("warmup.iterations")
    assert warmed(servable, tmp_path, [predict_log([1.0]).SerializeToString()], 3) == (1, 3)


def test_a_thousand_records_are_enough(servable: Servable, tmp_path: Path) -> None:
    assert warmed(servable, tmp_path, [b""] * 1000) == (1000, 0)
    error = error_of(servable, tmp_path, [b""] * 1001)
    row("warmup.too-many").check(*error, P=tmp_path / FILE)


def test_a_file_of_another_format_is_data_loss(servable: Servable, tmp_path: Path) -> None:
    tiny_models.write_warm_up(tmp_path, [b"x"])
    (tmp_path / FILE).write_bytes(b"these are not the records you are looking for")
    error = error_of(servable, tmp_path, [])
    row("warmup.not-tfrecord").check(*error)


def test_a_record_that_does_not_parse_is_named(servable: Servable, tmp_path: Path) -> None:
    code, text = error_of(servable, tmp_path, [b"\xffnonsense"])
    assert code == "INVALID_ARGUMENT"
    row("warmup.unparsable").check_text(text, P=tmp_path / FILE)


def test_a_failing_record_fails_the_load_of_its_version(tmp_path: Path) -> None:
    assert row("warmup.failing-record")
    records = [predict_log([1.0]), predict_log([1.0], signature_name="nothing")]
    path = tiny_models.write_half_plus(tmp_path / "1", warm_up=records)
    metrics = Metrics()
    with pytest.raises(ServingError, match='Serving signature key "nothing" not found'):
        VersionLoader(LoadOptions(), metrics)("half", 1, str(path))
    assert "model_warmup_records_read" in metrics.text()
    assert VersionLoader(LoadOptions(warm_up=False), metrics)("half", 1, str(path))


def test_the_answer_of_a_warmed_version_is_the_models(tmp_path: Path) -> None:
    path = tiny_models.write_half_plus(tmp_path / "1", warm_up=[predict_log([1.0])])
    servable = VersionLoader(LoadOptions(), Metrics())("half", 1, str(path))
    feeds = {"serving_default_x:0": tf.constant([2.0]).numpy()}
    assert servable.session.run(feeds, ["y:0"])[0].tolist() == [3.0]


def test_a_version_with_a_key_of_ml_metadata_is_on_the_metrics_page(tmp_path: Path) -> None:
    path = tiny_models.write_half_plus(tmp_path / "1", warm_up=[predict_log([1.0])])
    (path / "assets.extra" / "mlmd_uuid").write_text("key")
    metrics = Metrics()
    VersionLoader(LoadOptions(), metrics)("half", 3, str(path))
    assert ':mlmd_map{model_name="half",version="3"} ' in metrics.text()
