"""Pictures in, scores out: fetch, decode, call the model, and no answer under two contracts.

The tensor is made under the contract of the version believed to serve. The version that answered
is compared with it: where their contracts differ, the tensor is made again under the right one and
the call repeated naming that version. A server may also refuse a tensor that was made for another
version: then it is asked which version serves now. All of it inside the request's deadline.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gateway.deadline import Deadline
from gateway.errors import (
    ContractMismatch,
    DeadlineExceeded,
    GatewayError,
    ModelFailed,
    ModelNotFound,
    ModelRejectedInput,
    OriginTimeout,
)
from gateway.model_client.client import ModelSpec, Prediction
from gateway.scoring.contract import ModelContract, Preprocessing
from gateway.scoring.contracts import ContractStore
from gateway.scoring.parts import URL, Context, Decode, Fetch, Model, Picture
from gateway.scoring.scaling import to_tensor

_TRIES = 6
"""Calls for one request before its model's versions count as changing too fast."""

_NOT_FETCHED = "The picture was not fetched within the time that the request's pictures have."

_WAIT_BEYOND_DEADLINE = 0.25
"""Seconds by which a request's fetches may miss their deadline before none is waited for."""

_Decoded = dict[Preprocessing, list[np.ndarray | GatewayError]]
"""The pixels of a request's pictures, by how they were made."""


@dataclass(frozen=True)
class Scored:
    """The scores of a request's pictures, in their order, all by one version.

    rows holds for each picture its raw scores in the order of the contract's labels, or why it
    has none.
    """

    contract: ModelContract
    rows: tuple[np.ndarray | GatewayError, ...]

    @property
    def failure(self) -> GatewayError | None:
        """The first picture's error where no picture has scores."""
        errors = [row for row in self.rows if isinstance(row, GatewayError)]
        return errors[0] if len(errors) == len(self.rows) else None

    @property
    def version(self) -> int | None:
        """The version that computed the scores; None where no picture has any."""
        return self.contract.version if self.failure is None else None


class Scorer:
    """What the doors call.

    Args:
        model: the client of TensorFlow Serving.
        contracts: the contracts of its models.
        fetch: brings the bytes behind a URL.
        decode: makes pixels of bytes.
        fetch_timeout: seconds within which all pictures of a request are fetched.
        fetch_threads: pictures of lists that are fetched at once.
    """

    def __init__(
        self,
        model: Model,
        contracts: ContractStore,
        fetch: Fetch,
        decode: Decode,
        *,
        fetch_timeout: float,
        fetch_threads: int,
    ) -> None:
        self._model = model
        self._contracts = contracts
        self._fetch_one = fetch
        self._decode_one = decode
        self._fetch_timeout = fetch_timeout
        self._fetchers = ThreadPoolExecutor(fetch_threads, thread_name_prefix="fetch")

    def close(self) -> None:
        """Let go of the threads that fetch lists; what waits for one is not fetched."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)

    def score(self, pictures: Sequence[Picture], spec: ModelSpec, context: Context) -> Scored:
        """Score one or several pictures with the model, version or label that the spec names.

        What is wrong with one picture is in its row; what is raised concerns all of them.

        Raises:
            GatewayError: the model cannot answer, or the time is up.
        """
        try:
            return self._score(pictures, spec, context)
        finally:
            context.cancelled.end()

    def _score(self, pictures: Sequence[Picture], spec: ModelSpec, context: Context) -> Scored:
        self._model.circuit(spec.name).check()
        self._contracts.contract_for(spec, context.deadline)
        files = self._files(pictures, context)
        decoded: _Decoded = {}
        asked = spec
        for _ in range(_TRIES):
            try:
                answer = self._attempt(files, asked, context, decoded)
            except (ModelRejectedInput, ModelNotFound) as error:
                asked = self._ask_again(spec, asked, error, context.deadline)
                continue
            if isinstance(answer, Scored):
                self._contracts.believe(spec, answer.contract.version)
                return answer
            asked = ModelSpec(spec.name, version=answer)
        raise ContractMismatch(f"The versions of {spec.name!r} change too fast; try again.")

    def probe(self, contract: ModelContract, deadline: Deadline) -> None:
        """Have this very version score a blank picture.

        Raises:
            GatewayError: it cannot.
        """
        wanted = contract.preprocessing
        blank = np.zeros((wanted.height, wanted.width, wanted.channels), np.uint8)
        pinned = ModelSpec(contract.model, version=contract.version)
        prediction, size = self._call([blank], contract, pinned, Context(deadline))
        row = rows_of(prediction, contract, size)[0]
        if isinstance(row, GatewayError):
            raise row

    def _attempt(
        self,
        files: Sequence[bytes | GatewayError],
        asked: ModelSpec,
        context: Context,
        decoded: _Decoded,
    ) -> Scored | int:
        """The scores; or, where another contract answered than made the tensor, its version.

        `decoded` keeps the pixels for the next attempt, which may want the same.
        """
        contract = self._contracts.contract_for(asked, context.deadline)
        pixels = decoded.get(contract.preprocessing)
        if pixels is None:
            with context.stages.time("decode"):
                pixels = [self._pixels(file, contract, context) for file in files]
            decoded[contract.preprocessing] = pixels
        good = [picture for picture in pixels if isinstance(picture, np.ndarray)]
        if not good:
            return Scored(contract, tuple(pixels))
        predictions = self._predict(good, contract, asked, context)
        version = predictions[0][0].version
        answered = contract
        if version != contract.version:
            spec = ModelSpec(contract.model, version=version)
            answered = self._contracts.contract_for(spec, context.deadline)
        if not contract.same_answer(answered):
            return version
        scores = [row for part, size in predictions for row in rows_of(part, answered, size)]
        return Scored(answered, _merge(pixels, scores))

    def _ask_again(
        self, spec: ModelSpec, asked: ModelSpec, error: GatewayError, deadline: Deadline
    ) -> ModelSpec:
        """The version to name next, after the server refused the tensor or lost the version.

        Raises:
            GatewayError: the error, where no other version can be the reason.
        """
        refused_by_name = isinstance(error, ModelRejectedInput) and asked.version is not None
        if spec.version is not None or refused_by_name:
            raise error
        return ModelSpec(spec.name, version=self._contracts.ask_version(spec, deadline))

    def _predict(
        self,
        good: Sequence[np.ndarray],
        contract: ModelContract,
        asked: ModelSpec,
        context: Context,
    ) -> list[tuple[Prediction, int]]:
        """One call for all pictures, or several of the size that the model takes.

        Several calls name the version, so that one version answers them all. With each answer
        comes the number of rows that it must have.
        """
        size = contract.input_shape[0]
        if size == -1 or len(good) <= size:
            try:
                return [self._call(good, contract, asked, context)]
            except ModelRejectedInput:
                if len(good) == 1 or asked.version is None:
                    raise
        pinned = ModelSpec(contract.model, version=contract.version)
        step = max(1, size)
        parts = [good[start : start + step] for start in range(0, len(good), step)]
        return [self._call(part, contract, pinned, context) for part in parts]

    def _call(
        self,
        good: Sequence[np.ndarray],
        contract: ModelContract,
        asked: ModelSpec,
        context: Context,
    ) -> tuple[Prediction, int]:
        """One call; a batch of fixed size is filled up with blank pictures."""
        context.check("prediction")
        with context.stages.time("decode"):
            full = [*good, *[np.zeros_like(good[0])] * (contract.input_shape[0] - len(good))]
            tensor = to_tensor(full, contract.preprocessing, contract.input_dtype)
        with context.stages.time("predict"):
            prediction = self._model.predict(
                asked,
                contract.document.signature,
                {contract.input_name: tensor},
                context.deadline,
                (contract.output_name,),
                cancelled=context.cancelled,
            )
        return prediction, len(full)

    def _files(
        self, pictures: Sequence[Picture], context: Context
    ) -> Sequence[bytes | GatewayError]:
        """The bytes of each picture, fetched where that is needed."""
        sent = [picture for picture in pictures if isinstance(picture, bytes)]
        if len(sent) == len(pictures):
            return sent
        context.check("fetch")
        with context.stages.time("fetch"):
            return self._fetch(pictures, context)

    def _fetch(self, pictures: Sequence[Picture], context: Context) -> list[bytes | GatewayError]:
        """The bytes of each picture; several URLs are fetched together."""
        deadline = context.deadline.sooner(self._fetch_timeout)
        if len(pictures) == 1:
            return [self._bytes(pictures[0], deadline, context)]
        waiting = [
            self._fetchers.submit(self._bytes, picture, deadline, context) for picture in pictures
        ]
        patience = Deadline(deadline.at + _WAIT_BEYOND_DEADLINE)
        return [_wait(future, patience) for future in waiting]

    def _bytes(
        self, picture: Picture, deadline: Deadline, context: Context
    ) -> bytes | GatewayError:
        if not isinstance(picture, URL):
            return picture
        try:
            return self._fetch_one(picture.text, deadline, context.cancelled)
        except DeadlineExceeded as error:
            return error if context.deadline.expired() else OriginTimeout(_NOT_FETCHED)
        except GatewayError as error:
            return error

    def _pixels(
        self, file: bytes | GatewayError, contract: ModelContract, context: Context
    ) -> np.ndarray | GatewayError:
        if isinstance(file, GatewayError):
            return file
        context.check("decoding")
        try:
            return self._decode_one(
                file, contract.preprocessing, context.deadline, context.cancelled
            )
        except GatewayError as error:
            return error


def rows_of(
    prediction: Prediction, contract: ModelContract, size: int
) -> list[np.ndarray | GatewayError]:
    """Each picture's scores; an error in place of those that are not finite.

    Raises:
        ModelFailed: they are not what the contract says.
    """
    who = f"Version {prediction.version} of {contract.model!r}"
    scores = prediction.outputs.get(contract.output_name)
    if scores is None:
        raise ModelFailed(f"{who} answered without its output {contract.output_name!r}.")
    shape = (size, len(contract.labels))
    if scores.shape != shape or scores.dtype.kind not in "fiu":
        raise ModelFailed(
            f"{who} answered {scores.dtype.name} of shape {list(scores.shape)}; its contract makes "
            f"it numbers of shape {list(shape)}."
        )
    failed = ModelFailed(f"{who} answered scores that are not finite numbers.")
    return [row if np.isfinite(row).all() else failed for row in scores]


def _merge(
    pixels: Sequence[np.ndarray | GatewayError], scores: Sequence[np.ndarray | GatewayError]
) -> tuple[np.ndarray | GatewayError, ...]:
    """Each picture's scores, or the error that kept it from the model."""
    following = iter(scores)
    return tuple(
        picture if isinstance(picture, GatewayError) else next(following) for picture in pixels
    )


def _wait(future: "Future[bytes | GatewayError]", patience: Deadline) -> bytes | GatewayError:
    try:
        return future.result(patience.remaining())
    except TimeoutError:
        future.cancel()
        return OriginTimeout(_NOT_FETCHED)
