"""Replays the requests that a model brought along, before it becomes available."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import message
from tensorflow.python.lib.io import _pywrap_record_io
from tensorflow_serving.apis import prediction_log_pb2

from model.server import examples
from model.server.errors import ServingError, invalid, unimplemented
from model.server.predict import PredictOptions, predict
from model.server.recorder import Recorder
from model.server.servable import Servable
from model.server.session import from_tensorflow

log = logging.getLogger(__name__)

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000

Replay = Callable[[Servable, Any, PredictOptions], object]


def warm_up(
    servable: Servable, path: str, iterations: int, options: PredictOptions, recorder: Recorder
) -> int:
    """Run every record of the version's warm-up file; how many there were.

    Raises:
        ServingError: the file is no TFRecord, has too many records, or one of them fails.
    """
    file = f"{path}/{FILE}"
    if not tf.io.gfile.exists(file):
        log.info("No warmup data file found at %s", file)
        return 0
    log.info("Starting to read warmup data for model at %s", file)
    start, count = time.monotonic(), 0
    status = "OK"
    try:
        for record in _records(file):
            for _ in range(max(1, iterations)):
                _replay(servable, record, options)
            count += 1
            if count > MAX_RECORDS:
                invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
    except ServingError as error:
        status = str(error)
        raise
    finally:
        recorder.observe_warmup(path, status, time.monotonic() - start, count)
    log.info("Finished reading warmup data for model at %s. Records read: %d.", file, count)
    return count


def _records(file: str) -> Iterator[prediction_log_pb2.PredictionLog]:
    try:
        for record in _pywrap_record_io.RecordIterator(file, ""):
            yield _parsed(record, file)
    except tf.errors.DataLossError as error:
        text = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise ServingError(grpc.StatusCode.DATA_LOSS, text) from error
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from error


def _parsed(record: bytes, file: str) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except message.DecodeError as error:
        text = f"Failed to parse warmup record: {record.decode('utf-8', 'replace')} from {file}"
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, text) from error


def _replay(servable: Servable, record: Any, options: PredictOptions) -> None:
    kind = record.WhichOneof("log_type")
    if kind is None:
        return
    replay = REPLAYS.get(kind)
    if replay is None:
        number = record.DESCRIPTOR.fields_by_name[kind].number
        unimplemented(f"Unsupported log_type for warmup: {number}")
    replay(servable, getattr(record, kind).request, options)


REPLAYS: dict[str, Replay] = {
    "predict_log": lambda servable, request, options: predict(servable, request, None, options),
    "classify_log": lambda servable, request, options: examples.classify(
        servable, request, None, check_method_names=options.check_method_names
    ),
    "regress_log": lambda servable, request, options: examples.regress(
        servable, request, None, check_method_names=options.check_method_names
    ),
    "multi_inference_log": lambda servable, request, options: examples.multi_inference(
        servable, request, None, check_method_names=options.check_method_names
    ),
}
