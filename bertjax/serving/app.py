"""`make_app`: a service behind HTTP, as an ASGI application.

A request passes, from outside in: the limits (who, how much, how fast), the typed routes, the service.
"""

import math
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from bertjax import __version__
from bertjax.config import Execution
from bertjax.errors import UserError
from bertjax.serving.api import (
    Embeddings,
    EmbedRequest,
    EvaluateRequest,
    Evaluation,
    LoadRequest,
    ModelFacts,
    ModelIdentity,
    Predictions,
    PredictRequest,
    Problem,
    Status,
    StrictRequest,
)
from bertjax.serving.limits import RequestLimits, ServiceSettings
from bertjax.serving.model_slot import ServedModel
from bertjax.serving.page import page_routes
from bertjax.serving.request_batcher import ComputeFailed, QueueFull
from bertjax.serving.service import NotReady, NotServed, OutOfTime, Rule, Service, TooMuch

_AGAIN = {"retry-after": "1"}  # seconds
_LONGEST_DETAIL = 400  # characters
_PACKAGES = ("jax", "jaxlib", "numpy", "transformers", "fastapi")


def build_app(
    models: Mapping[str, str],
    settings: ServiceSettings,
    rule: Rule | None = None,
    execution: Execution | None = None,
) -> FastAPI:
    """The application of a service that becomes ready when the application starts.

    Args:
      models: names -> where each model is; the first one is put in service.
      settings: limits.
      rule: has the last word on predictions.
      execution: how to run the networks.
    """
    service = Service(models, settings, rule, execution)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        service.close()

    return make_app(service, lifespan)


def make_app(service: Service, lifespan: Any = None) -> FastAPI:
    """The application of a service, which the caller starts and closes unless `lifespan` does.

    Args:
      service: answers.
      lifespan: of the application, as FastAPI has it.
    """
    app = FastAPI(
        title="bertjax",
        version=__version__,
        description="A fine-tuned BERT behind HTTP.",
        docs_url=None,  # these pages load scripts of another site
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(_asking_routes(service))
    app.include_router(_telling_routes(service))
    app.include_router(page_routes(service))
    for error, answer in _ANSWERS.items():
        app.add_exception_handler(error, answer)
    app.add_middleware(RequestLimits, settings=service.settings, metrics=service.metrics)
    return app


class _StrictRoute(APIRoute):
    """A route whose body is JSON in the strict sense of `StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise HTTPException(415, "the body must be JSON, with the header Content-Type: application/json")
            return await handler(StrictRequest(request.scope, request.receive))

        return handle


def _asking_routes(service: Service) -> APIRouter:
    """The routes with a body."""
    routes = APIRouter(
        route_class=_StrictRoute,
        responses=_problems(400, 401, 408, 413, 415, 422, 500, 503),
        dependencies=_key_of(service),
    )

    @routes.post("/predict", responses=_problems(409))
    async def predict(request: PredictRequest) -> Predictions:
        """The model's answer to each text, pair or row."""
        model = service.model()
        entries = request.entries(model.predictor.columns)
        predictions = await service.predict(model, entries, request.options, request.explain)
        if not request.probabilities:
            predictions = [_without_probabilities(prediction) for prediction in predictions]
        return Predictions(predictions=predictions, model=_identity(model))

    @routes.post("/evaluate", responses=_problems(409))
    async def evaluate(request: EvaluateRequest) -> Evaluation:
        """How the model's answers compare with the labels of rows that are in the body."""
        model = service.model()
        report, num_rows = await service.evaluate(model, request.rows)
        return Evaluation(
            metrics=_finite(report.flat("test")), summary=report.summary, rows=num_rows, model=_identity(model)
        )

    @routes.post("/embed", responses=_problems(409))
    async def embed(request: EmbedRequest) -> Embeddings:
        """A vector of length 1 for each text."""
        model = service.model()
        vectors = await service.embed(model, request.entries())
        return Embeddings(embeddings=vectors.tolist(), model=_identity(model))

    @routes.post("/model", responses=_problems(403, 409))
    async def load(request: LoadRequest) -> ModelIdentity:
        """Puts a model in service, in the place of the one there; needs the admin token."""
        if service.slot.is_busy:
            raise HTTPException(409, "another model is being loaded; wait for it")
        try:
            return _identity(await service.slot.put(request.model))
        except UserError as error:
            raise HTTPException(409, _one_line(str(error))) from None

    return routes


def _telling_routes(service: Service) -> APIRouter:
    """The routes without a body."""
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> Status:
        """Whether the process answers."""
        return Status(status="ok")

    @routes.get("/ready", responses=_problems(503))
    async def ready() -> Status:
        """Whether the model is loaded and warm."""
        service.model()
        return Status(status="ready")

    @routes.get("/model", responses=_problems(401, 503), dependencies=_key_of(service))
    async def model_facts() -> ModelFacts:
        """The model in service."""
        model = service.model()
        return ModelFacts(
            model=_identity(model),
            task=model.predictor.model.task,
            labels=list(model.predictor.model.labels),
            columns=list(model.predictor.columns),
            max_length=model.loaded.max_length,
            metrics=_finite(model.metrics),
            versions={"bertjax": __version__, **{name: version(name) for name in _PACKAGES}},
            models=list(service.slot.addresses),
        )

    @routes.get("/metrics", response_class=Response, responses=_problems(401), dependencies=_key_of(service))
    async def metrics() -> Response:
        """What the server counts, in Prometheus' text format."""
        return Response(service.measured(), media_type=CONTENT_TYPE_LATEST)

    return routes


_MEANINGS = {
    400: "The body is no JSON.",
    401: "The key is missing or wrong.",
    403: "The server was started without an admin token.",
    408: "The body came too slowly.",
    409: "The model in service does not do this, or the one that is asked for cannot be put in service.",
    413: "The body is too long, or it has too many texts or too long ones.",
    415: "The body is said to be something else than JSON.",
    422: "The body does not say what can be done.",
    500: "The model, or the server's rule, failed at this request.",
    503: "Too much waits, time is up, or there is no model yet: try again after `Retry-After` seconds.",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that are no success, for OpenAPI."""
    return {status: {"model": Problem, "description": _MEANINGS[status]} for status in statuses}


def _key_of(service: Service) -> list[Any]:
    """What says in OpenAPI that a route needs a key; `RequestLimits` checks it."""
    return [Security(HTTPBearer(auto_error=False))] if service.settings.api_key else []


def _identity(model: ServedModel) -> ModelIdentity:
    return ModelIdentity(name=model.name, run_id=model.run_id, number=model.number)


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can have them: what is not defined is null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _without_probabilities(prediction: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in prediction.items() if key != "probabilities"}


def _one_line(message: str) -> str:
    """A message in one line that is not too long; it may quote a text."""
    line = " ".join(message.encode(errors="replace").decode().split())
    return line if len(line) <= _LONGEST_DETAIL else f"{line[:_LONGEST_DETAIL]} ..."


def _answering(status: int, headers: Mapping[str, str] | None = None) -> Any:
    """A handler that answers an error with its message."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": _one_line(str(error))}, status, headers)

    return answer


async def _answer_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """The first things that are wrong with a body, by their places; never what stands there."""
    found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3]]
    return JSONResponse({"detail": _one_line("; ".join(found))}, 422)


_ANSWERS: dict[Any, Any] = {
    RequestValidationError: _answer_invalid,
    TooMuch: _answering(413),
    NotServed: _answering(409),
    UserError: _answering(422),
    ComputeFailed: _answering(500),
    QueueFull: _answering(503, _AGAIN),
    NotReady: _answering(503, _AGAIN),
    OutOfTime: _answering(503, _AGAIN),
}
