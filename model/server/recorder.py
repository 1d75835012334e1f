"""What the server counts and times, as calls; `metrics.Metrics` is the real one."""

from typing import Protocol


class Recorder(Protocol):
    """Takes what happened. Times are in seconds; `status` is a code's name, such as `OK`."""

    def count_request(self, model: str, status: str) -> None:
        """A front answered a Predict, Classify or Regress (request_count)."""

    def observe_request_latency(
        self, model: str, api: str, entrypoint: str, seconds: float
    ) -> None:
        """A front answered one with success: `Predict`/`GRPC`, `predict`/`REST`."""

    def observe_runtime_latency(self, model: str, api: str, seconds: float) -> None:
        """The session ran for one request (runtime `TF1`)."""

    def observe_example_count(self, model: str, examples: int) -> None:
        """A Classify, Regress or MultiInference request carried so many examples."""

    def observe_warmup(self, model_path: str, status: str, seconds: float, records: int) -> None:
        """A version's warm-up ended after this many records."""

    def observe_load(self, model_path: str, status: str, seconds: float) -> None:
        """A try to load a SavedModel ended: `success` or `fail`."""

    def publish_metadata_key(self, model: str, version: int) -> None:
        """A version carries a key of ML Metadata (mlmd_map)."""

    def observe_queuing(self, thread_pool: str, seconds: float) -> None:
        """A task waited this long in a batching queue."""

    def observe_batch_input(self, size: int) -> None:
        """A call of this many examples was given to a batching queue (input_batch_size)."""

    def observe_batch(self, processed_size: int, padding_size: int) -> None:
        """A batch was merged: `padding_size` of its `processed_size` examples are padding."""

    def count_wrapped_run(self) -> None:
        """A merged batch ran in the session (wrapped_run_count)."""

    def counter_value(self, name: str) -> int:
        """What the counter of this name stands at, such as `/tensorflow/serving/request_count`.

        Of a counter with labels, its first cell; 0 for a name that is no counter.
        """
