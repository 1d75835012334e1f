"""`POST /predict`: pictures in, named scores out."""

from typing import Any

from flask import Blueprint, Response, request

from gateway import problem
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.routes import calls
from gateway.routes.bodies import Question, read_question
from gateway.scoring.named import named_scores
from gateway.scoring.parts import Context
from gateway.scoring.score import Scored, Scorer
from gateway.settings import Settings


def predict_routes(settings: Settings, scorer: Scorer, metrics: Metrics) -> Blueprint:
    """The route, for an application that scores with these parts."""
    routes = Blueprint("predict", __name__)

    @routes.post("/predict")
    def predict() -> Response:
        context = calls.context(settings.request_timeout)
        question = read_question(request, settings)
        scored = _score(scorer, question, context, metrics)
        return _response(question, scored, context)

    return routes


def _score(scorer: Scorer, question: Question, context: Context, metrics: Metrics) -> Scored:
    """Score and count: by version and outcome where there is an answer, by error where not."""
    outcome, version = "internal", None
    try:
        scored = scorer.score(question.pictures, question.spec, context)
        version = scored.version
        first = scored.rows[0]
        if isinstance(first, GatewayError) and not question.listed:
            raise first
        outcome = "ok"
    except GatewayError as error:
        outcome = error.kind.value
        raise
    finally:
        metrics.request(question.spec.name, version, outcome)
        for stage, seconds in context.stages.seconds.items():
            metrics.stage(stage, seconds, question.spec.name, version)
    return scored


def _response(question: Question, scored: Scored, context: Context) -> Response:
    answers = [_answer(row, question, scored) for row in scored.rows]
    if question.listed:
        response = calls.json_response({"predictions": answers})
    else:
        response = calls.json_response(answers[0]["scores"])
    response.headers["X-Model-Name"] = scored.contract.model
    if scored.version is not None:
        response.headers["X-Model-Version"] = str(scored.version)
    response.headers["Server-Timing"] = context.stages.server_timing()
    return response


def _answer(row: Any, question: Question, scored: Scored) -> dict[str, Any]:
    """One picture's place in a list: its scores, or its own error in the shape of all errors."""
    if isinstance(row, GatewayError):
        calls.log_error(row)
        return {"error": problem.problem_of_error(row, calls.request_id())}
    return {
        "scores": named_scores(
            row, scored.contract, top=question.top, probabilities=question.probabilities
        )
    }
