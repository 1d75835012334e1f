"""The application: which parts there are, which routes, and what every failure answers.

A worker calls `assemble`, the one place that chooses the real parts, after it was forked.
"""

import logging
from dataclasses import dataclass, replace
from functools import partial

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from gateway.errors import GatewayError, InternalError
from gateway.metrics import Metrics
from gateway.model_client.client import ModelClient
from gateway.model_client.guards import Guards
from gateway.model_client.tls import ClientTls
from gateway.problem import INTERNAL_DETAIL
from gateway.routes import calls
from gateway.routes.operations import operations_routes
from gateway.routes.predict import predict_routes
from gateway.scoring import allocator
from gateway.scoring.budget import DecodeBudget
from gateway.scoring.contracts import ContractStore
from gateway.scoring.decode_children import DecodeChildren
from gateway.scoring.decode_limits import ImageLimits
from gateway.scoring.fetch import Fetcher
from gateway.scoring.first_start import FirstStart
from gateway.scoring.parts import Decode, Fetch, Model
from gateway.scoring.score import Scorer
from gateway.scoring.watch import ModelWatcher
from gateway.settings import Settings

logger = logging.getLogger("tensorgate.app")


@dataclass(frozen=True)
class Parts:
    """What the routes call, made once in each worker."""

    contracts: ContractStore
    scorer: Scorer
    watcher: ModelWatcher
    metrics: Metrics
    children: DecodeChildren | None = None

    def start(self) -> None:
        """Start decode children, and begin to watch the models; called after the fork."""
        if self.children is not None:
            self.children.start()
        self.watcher.start()

    def stop(self) -> None:
        """Let the background threads and processes end; no request is waited for."""
        self.watcher.stop()
        self.scorer.close()
        if self.children is not None:
            self.children.stop()


def assemble(
    settings: Settings,
    metrics: Metrics,
    budget: DecodeBudget,
    first_start: FirstStart,
    guards: Guards,
    tls: ClientTls | None,
) -> Parts:
    """The real parts: TensorFlow Serving's client, the fetcher, the decode children.

    Args:
        settings: where the model server is, limits and times.
        metrics: this worker's.
        budget: memory for decoding, made before the fork and shared by all workers.
        first_start: whether the gateway was ready once, made before the fork and shared as well.
        guards: bound what an outage of the model server costs, made before the fork and shared.
        tls: encrypts calls of the model server. Made before the fork, so that a worker can begin
            while its files are being exchanged.
    """
    allocator.keep_little()
    model = ModelClient(
        settings.tf_serving_host,
        max_retries=settings.max_model_retries,
        guards=guards,
        tls=tls,
        on_retry=lambda _reason: metrics.retries.inc(),
    )
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    children = DecodeChildren(settings.decode_children, limits, budget, metrics)
    fetch = Fetcher(settings).fetch
    parts = join_parts(settings, metrics, model, fetch, children.decode, first_start)
    return replace(parts, children=children)


def join_parts(
    settings: Settings,
    metrics: Metrics,
    model: Model,
    fetch: Fetch,
    decode: Decode,
    first_start: FirstStart,
) -> Parts:
    """The parts that stand on a model client, a fetcher and a decoder, whichever these are."""
    contracts = ContractStore(model, settings.contract_files)
    scorer = Scorer(
        model,
        contracts,
        fetch,
        decode,
        fetch_timeout=settings.fetch_timeout,
        fetch_threads=settings.fetch_threads,
    )
    watcher = ModelWatcher(settings, model, contracts, scorer.probe, first_start)
    return Parts(contracts, scorer, watcher, metrics)


def create_app(settings: Settings, parts: Parts) -> Flask:
    """The WSGI application: every route, and one answer for every failure."""
    app = Flask("tensorgate", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # Flask's own answer says it is HTML
    app.before_request(_refuse_empty_segments)
    app.register_blueprint(predict_routes(settings, parts.scorer, parts.metrics))
    app.register_blueprint(operations_routes(parts.watcher, parts.contracts))
    app.register_error_handler(GatewayError, _answer_error)
    app.register_error_handler(NotFound, partial(_answer_not_found, app))
    app.register_error_handler(MethodNotAllowed, _answer_method_not_allowed)
    app.register_error_handler(HTTPException, calls.response_of_http_error)
    app.register_error_handler(Exception, _answer_unexpected)
    app.after_request(_name_request)
    return app


def _refuse_empty_segments() -> None:
    """Werkzeug takes //readyz for /readyz; the server before it, and a proxy's rules, do not."""
    if "//" in request.environ["PATH_INFO"]:
        raise NotFound


def _answer_error(error: GatewayError) -> Response:
    calls.log_error(error)
    return calls.response_of_error(error)


def _answer_not_found(app: Flask, _error: NotFound) -> Response:
    routes = ", ".join(sorted({rule.rule for rule in app.url_map.iter_rules()}))
    return calls.response_of_http_error(NotFound(f"There is nothing at this path; try {routes}."))


def _answer_method_not_allowed(error: MethodNotAllowed) -> Response:
    methods = ", ".join(sorted(error.valid_methods or ()))
    description = f"This path takes {methods}, not {request.method[:20]}."
    return calls.response_of_http_error(MethodNotAllowed(error.valid_methods, description))


def _answer_unexpected(error: Exception) -> Response:
    fields = {"request_id": calls.request_id()}
    logger.error("unexpected failure", extra={"fields": fields}, exc_info=error)
    return calls.response_of_error(InternalError(INTERNAL_DETAIL))


def _name_request(response: Response) -> Response:
    response.headers["X-Request-ID"] = calls.request_id()
    return response
