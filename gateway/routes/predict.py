"""`POST /predict`: pictures in, named scores out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException

from gateway import problem
from gateway.errors import CallerGone, GatewayError, Kind
from gateway.metrics import Metrics
from gateway.routes import calls
from gateway.routes.bodies import Question, read_question
from gateway.scoring.named import named_scores
from gateway.scoring.parts import Context, Picture
from gateway.scoring.score import Scored, Scorer
from gateway.scoring.stages import Stages
from gateway.settings import Settings


@dataclass
class _Tally:
    """What is counted of a request."""

    model: str = ""
    version: int | None = None
    outcome: str = Kind.INTERNAL.value


def predict_routes(settings: Settings, scorer: Scorer, metrics: Metrics) -> Blueprint:
    """The route, for an application that scores with these parts."""
    routes = Blueprint("predict", __name__)

    @routes.post("/predict")
    def predict() -> Response:
        context = calls.context(settings.request_timeout)
        with _counted(metrics, context.stages) as tally:
            question = read_question(request, settings)
            tally.model = question.spec.name
            calls.count_pictures(len(question.pictures))
            scored = scorer.score(question.pictures, question.spec, context)
            tally.version = scored.version
            return _response(question, scored, context, tally)

    return routes


@contextmanager
def _counted(metrics: Metrics, stages: Stages) -> Iterator[_Tally]:
    """Count the request that the block answers, and the stages that it went through."""
    tally = _Tally()
    try:
        yield tally
    except CallerGone as error:
        tally.outcome = error.slug
        raise
    except GatewayError as error:
        tally.outcome = error.kind.value
        raise
    except HTTPException:
        tally.outcome = Kind.INVALID.value
        raise
    finally:
        metrics.request(tally.model, tally.version, tally.outcome)
        for stage, seconds in stages.seconds.items():
            if seconds:
                metrics.stage(stage, seconds, tally.model, tally.version)


def _response(question: Question, scored: Scored, context: Context, tally: _Tally) -> Response:
    """The answer; a single picture's error is raised, a list's errors stand in their places."""
    failure = scored.failure
    if failure is not None and not question.listed:
        g.picture = question.pictures[0]
        raise failure
    tally.outcome = failure.kind.value if failure is not None else "ok"
    answers = [
        _answer(row, picture, question, scored)
        for row, picture in zip(scored.rows, question.pictures, strict=True)
    ]
    if question.listed:
        response = calls.json_response({"predictions": answers})
    else:
        response = calls.json_response(answers[0]["scores"])
    response.headers["X-Model-Name"] = scored.contract.model
    if scored.version is not None:
        response.headers["X-Model-Version"] = str(scored.version)
    response.headers["Server-Timing"] = context.stages.server_timing()
    return response


def _answer(row: Any, picture: Picture, question: Question, scored: Scored) -> dict[str, Any]:
    """One picture's place in a list: its scores, or its own error in the shape of all errors."""
    if isinstance(row, GatewayError):
        calls.log_error(row, picture)
        return {"error": problem.problem_of_error(row, calls.request_id())}
    return {
        "scores": named_scores(
            row, scored.contract, top=question.top, probabilities=question.probabilities
        )
    }
