"""Whether the process lives, whether it may be asked, what it serves, and how it is asked."""

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request

from gateway import problem
from gateway.errors import ContractMismatch, Draining
from gateway.model_client.client import VersionStatus
from gateway.routes import calls
from gateway.scoring.contract import ModelContract
from gateway.scoring.contracts import ContractStore
from gateway.scoring.watch import ModelState, ModelWatcher

DOCUMENT = Path(__file__).parents[1] / "openapi.json"
"""The OpenAPI document of all routes, written by hand and held to them by tests."""


def operations_routes(watcher: ModelWatcher, contracts: ContractStore) -> Blueprint:
    """The routes, for an application that scores with these parts."""
    routes = Blueprint("operations", __name__)
    document = DOCUMENT.read_bytes()

    @routes.get("/healthz")
    def healthz() -> Response:
        return calls.json_response({"status": "ok"})

    @routes.get("/readyz")
    def readyz() -> Response:
        if request.environ.get("tensorgate.draining", False):
            raise Draining("The gateway is about to stop.")
        readiness = watcher.readiness()
        missing = [{"model": name, "reason": why} for name, why in readiness.missing.items()]
        if readiness.passed:
            return calls.json_response({"status": "ready", "missing": missing})
        return _not_ready(missing)

    @routes.get("/models")
    def models() -> Response:
        described = [
            _model(state, contracts.known(state.model), default=position == 0)
            for position, state in enumerate(watcher.states())
        ]
        return calls.json_response({"models": described})

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return Response(document, mimetype="application/json")

    return routes


def _not_ready(missing: list[dict[str, str]]) -> Response:
    detail = " ".join(f"{lack['model']}: {lack['reason']}" for lack in missing)
    document = problem.problem(
        503,
        "not-ready",
        "The gateway is not ready",
        detail or "The gateway has not looked at its models yet.",
        calls.request_id(),
        missing=missing,
    )
    response = calls.problem_response(document)
    response.headers["Retry-After"] = str(problem.RETRY_AFTER_SECONDS)
    return response


def _model(
    state: ModelState, known: dict[int, ModelContract | ContractMismatch], *, default: bool
) -> dict[str, Any]:
    return {
        "name": state.model,
        "default": default,
        "current": state.current,
        "missing": state.missing or None,
        "versions": [_version(status, known.get(status.version)) for status in state.versions],
    }


def _version(
    status: VersionStatus, contract: ModelContract | ContractMismatch | None
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "version": status.version,
        "state": status.state,
        "contract": None,
        "contract_error": None,
    }
    if isinstance(contract, ContractMismatch):
        described["contract_error"] = contract.message
    elif contract is not None:
        described["contract"] = _contract(contract)
    return described


def _contract(contract: ModelContract) -> dict[str, Any]:
    wanted = contract.preprocessing
    return {
        "signature": contract.document.signature,
        "input": {
            "name": contract.input_name,
            "dtype": contract.input_dtype.name,
            "shape": list(contract.input_shape),
        },
        "output": {"name": contract.output_name, "shape": list(contract.output_shape)},
        "labels": list(contract.labels),
        "scores": contract.document.scores,
        "preprocessing": {
            "height": wanted.height,
            "width": wanted.width,
            "resampling": wanted.resampling,
            "color_mode": wanted.color_mode,
            "color_order": wanted.color_order,
            "scaling": wanted.scaling,
            "transparency": None if wanted.transparency is None else list(wanted.transparency),
            "exif_orientation": wanted.exif_orientation,
            "sixteen_bit": wanted.sixteen_bit,
        },
    }
