"""What is counted, and under which labels."""

from typing import Any

from gateway.metrics import Exposition, Metrics
from gateway.model_client.guards import State


class HalfUsedBudget:
    """A decode budget of which half is taken."""

    total_bytes = 1000

    def in_use(self) -> int:
        return 500


class HalfOpenCircuit:
    """A circuit that has opened twice."""

    model = "clothing-model"
    state = State.HALF_OPEN
    times_opened = 2


def exposed(metrics: Metrics) -> dict[str, float]:
    """Every sample that /metrics shows."""
    environ: dict[str, Any] = {"PATH_INFO": "/metrics"}
    exposition = Exposition(metrics, HalfUsedBudget(), [HalfOpenCircuit()])
    text = b"".join(exposition(environ, lambda *_: None)).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_model_that_the_settings_do_not_name_is_counted_as_other() -> None:
    metrics = Metrics(["clothing-model"])
    metrics.request("clothing-model", 3, "ok")
    metrics.request("' or 1=1", None, "not-found")
    metrics.stage("fetch", 0.3, "another stranger", None)
    samples = exposed(metrics)

    name = "tensorgate_requests_total"
    assert samples[f'{name}{{model="clothing-model",outcome="ok",version="3"}}'] == 1
    assert samples[f'{name}{{model="other",outcome="not-found",version=""}}'] == 1
    assert samples['tensorgate_stage_seconds_count{model="other",stage="fetch",version=""}'] == 1
    assert not any("stranger" in sample for sample in samples)


def test_gauges_say_the_last_number() -> None:
    metrics = Metrics()
    for number in (1, 2, 1):
        metrics.in_flight(number)
        metrics.connections(10 * number)
    samples = exposed(metrics)

    assert samples["tensorgate_in_flight"] == 1
    assert samples["tensorgate_connections"] == 10


def test_each_models_circuit_has_one_state() -> None:
    samples = exposed(Metrics())
    states = {
        state: samples[f'tensorgate_model_circuit{{model="clothing-model",state="{state}"}}']
        for state in ("closed", "open", "half-open")
    }
    assert states == {"closed": 0, "open": 0, "half-open": 1}
    assert samples['tensorgate_model_circuit_opened_total{model="clothing-model"}'] == 2


def test_refusals_and_retries_are_counted() -> None:
    metrics = Metrics()
    metrics.refused("overloaded")
    metrics.refused("overloaded")
    metrics.retries.inc()
    samples = exposed(metrics)

    assert samples['tensorgate_refused_total{reason="overloaded"}'] == 2
    assert samples["tensorgate_model_retries_total"] == 1


def test_decode_children_are_counted_by_why_they_ended() -> None:
    metrics = Metrics()
    metrics.decode_children(2)
    metrics.decode_child_ended("deadline")
    metrics.decode_child_ended("deadline")
    samples = exposed(metrics)

    assert samples["tensorgate_decode_children"] == 2
    assert samples['tensorgate_decode_children_ended_total{reason="deadline"}'] == 2


def test_the_decode_budget_is_read_when_it_is_asked_for() -> None:
    samples = exposed(Metrics())

    assert samples["tensorgate_decode_budget_bytes"] == 1000
    assert samples["tensorgate_decode_budget_in_use_bytes"] == 500
