"""The page of metrics against the reference's table, and against Prometheus's own reader."""

import threading
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.server.metrics import CONTENT_TYPE, DEFAULT_PATH, Metrics
from model.server.recorder import Recorder
from tests.support import serving_reference as reference
from tests.support.serving_reference import row

EVENTS: dict[str, Callable[[Metrics], None]] = {
    "metrics.request-count": lambda metrics: metrics.count_request("hat", "OK"),
    "metrics.request-latency": lambda metrics: metrics.observe_request_latency(
        "hat", "Predict", "GRPC", 0.5
    ),
    "metrics.runtime-latency": lambda metrics: metrics.observe_runtime_latency(
        "hat", "Predict", 0.5
    ),
    "metrics.request-example-counts": lambda metrics: metrics.observe_example_count("hat", 3),
    "metrics.request-example-count-total": lambda metrics: metrics.observe_example_count("hat", 3),
    "metrics.model-warmup-latency": lambda metrics: metrics.observe_warmup("/m/1", "OK", 0.5, 7),
    "metrics.model-warmup-records-read": lambda metrics: metrics.observe_warmup(
        "/m/1", "OK", 0.5, 7
    ),
    "metrics.batching-queuing-latency": lambda metrics: metrics.observe_queuing("pool", 0.5),
    "metrics.wrapped-run-count": lambda metrics: metrics.count_wrapped_run(),
    "metrics.padding-size": lambda metrics: metrics.observe_batch(32, 5),
    "metrics.input-batch-size": lambda metrics: metrics.observe_batch_input(3),
    "metrics.processed-batch-size": lambda metrics: metrics.observe_batch(32, 5),
    "metrics.mlmd-map": lambda metrics: metrics.publish_metadata_key("hat", 1),
    "metrics.load-attempt-count": lambda metrics: metrics.observe_load("/m/1", "success", 0.5),
    "metrics.load-latency": lambda metrics: metrics.observe_load("/m/1", "success", 0.5),
}
NEVER_COUNTED = ("metrics.request-log-count", "metrics.saved-model-queuing-latency")
"""There is no request log, and no runtime of the other kind that batches."""
ABSENT = ("metrics.core",)
"""Counted inside of TensorFlow's runtime, where Python cannot read."""


def lines_of(metrics: Metrics, name: str) -> list[str]:
    return [line for line in metrics.text().splitlines() if line.startswith(name)]


def label_names(line: str) -> list[str]:
    pairs = line.partition("{")[2].rpartition("}")[0]
    return [pair.partition("=")[0] for pair in pairs.split(",") if pair]


def test_the_table_of_metrics_is_all_here() -> None:
    metrics = {entry.id for entry in reference.section("metrics") if "name" in entry.more}
    assert metrics == {*EVENTS, *NEVER_COUNTED, *ABSENT}


@pytest.mark.parametrize("row_id", EVENTS)
def test_a_metric_has_the_references_name_type_and_labels(row_id: str) -> None:
    entry = row(row_id).more
    metrics = Metrics()
    EVENTS[row_id](metrics)
    lines = lines_of(metrics, entry["name"])
    if entry["type"]:
        assert f"# TYPE {entry['name']} {entry['type']}" in metrics.text().splitlines()
    if entry["labels"] is not None:
        expected = entry["labels"] + (["le"] if entry["type"] == "histogram" else [])
        assert label_names(lines[0]) == expected
    assert any(line.rpartition(" ")[2] != "0" for line in lines) or row_id == "metrics.mlmd-map"


@pytest.mark.parametrize("row_id", [row_id for row_id in EVENTS if row(row_id).more["buckets"]])
def test_a_histogram_has_the_references_buckets(row_id: str) -> None:
    entry = row(row_id).more
    metrics = Metrics()
    EVENTS[row_id](metrics)
    buckets = entry["buckets"]
    limits = [
        line.partition('le="')[2].partition('"')[0]
        for line in lines_of(metrics, f"{entry['name']}_bucket")
    ]
    exact = [buckets["scale"] * buckets["growth"] ** power for power in range(buckets["count"])]
    assert [float(limit) for limit in limits[:-1]] == pytest.approx(exact, rel=1e-5)
    assert limits[-1] == "+Inf"


@pytest.mark.parametrize("row_id", NEVER_COUNTED)
def test_a_metric_that_nothing_counts_is_named_on_the_page(row_id: str) -> None:
    entry = row(row_id).more
    assert f"# TYPE {entry['name']} {entry['type']}" in Metrics().text().splitlines()


def test_a_value_that_equals_a_limit_is_counted_in_the_next_bucket() -> None:
    metrics = Metrics()
    for size in (2, 20, 200):
        metrics.observe_batch_input(size)
    lines = lines_of(metrics, ":tensorflow:serving:batching_session:input_batch_size")
    start = ":tensorflow:serving:batching_session:input_batch_size"
    assert lines[:3] == [
        f'{start}_bucket{{le="1"}} 0',
        f'{start}_bucket{{le="2"}} 0',
        f'{start}_bucket{{le="4"}} 1',
    ]
    assert lines[-3:] == [
        f'{start}_bucket{{le="+Inf"}} 3',
        f"{start}_sum{{}} 222",
        f"{start}_count{{}} 3",
    ]


def test_times_are_microseconds() -> None:
    assert row("metrics.microseconds")
    metrics = Metrics()
    metrics.observe_request_latency("hat", "predict", "REST", 0.002)
    assert (
        ':tensorflow:serving:request_latency_sum{model_name="hat",API="predict",entrypoint="REST"}'
        " 2000" in metrics.text()
    )


def test_braces_are_always_printed_and_help_never() -> None:
    assert row("metrics.braces")
    assert row("metrics.no-help-lines")
    metrics = Metrics()
    metrics.count_wrapped_run()
    text = metrics.text()
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} 1\n" in text
    assert "# HELP" not in text
    assert text.endswith("\n")


def test_names_have_colons_for_what_prometheus_does_not_allow() -> None:
    assert row("metrics.names")
    for line in Metrics().text().splitlines():
        assert line.startswith("# TYPE :tensorflow:")
        assert "/" not in line


def test_no_metric_of_requests_has_a_version_or_a_signature() -> None:
    assert row("metrics.no-version-label")
    metrics = Metrics()
    for event in EVENTS.values():
        event(metrics)
    for line in lines_of(metrics, ":tensorflow:serving:r"):
        assert not {"version", "signature", "signature_name"} & set(label_names(line))


def test_the_page_is_text_at_the_references_path() -> None:
    assert row("metrics.default-path").more["default"] == DEFAULT_PATH
    assert row("metrics.content-type")
    assert CONTENT_TYPE == "text/plain"


def test_prometheus_reads_the_page_whatever_labels_hold() -> None:
    metrics = Metrics()
    for event in EVENTS.values():
        event(metrics)
    metrics.count_request('a"b\\c\nd', "OK")
    families = {family.name: family for family in text_string_to_metric_families(metrics.text())}
    samples = families[":tensorflow:serving:request_count"].samples
    assert {sample.labels["model_name"] for sample in samples} == {"hat", 'a"b\\c\nd'}
    assert families[":tensorflow:serving:request_latency"].type == "histogram"


def test_counting_from_many_threads_loses_nothing() -> None:
    metrics = Metrics()

    def count() -> None:
        for _ in range(500):
            metrics.count_request("hat", "OK")
            metrics.observe_batch_input(4)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.counter_value("/tensorflow/serving/request_count") == 4000
    assert ":tensorflow:serving:batching_session:input_batch_size_count{} 4000" in metrics.text()


def test_metrics_are_what_the_core_calls_a_recorder() -> None:
    recorder: Recorder = Metrics()
    recorder.count_wrapped_run()
    assert recorder.counter_value("/tensorflow/serving/batching_session/wrapped_run_count") == 1
    assert recorder.counter_value("/no/such/counter") == 0
