"""`make_app`: a service behind HTTP, as an ASGI application. The layers from outside in: limits, routes, service."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST

from bertjax import __version__
from bertjax.config import Execution
from bertjax.errors import ConfigError, UserError
from bertjax.inference.service.api import (
    Embeddings,
    EmbedRequest,
    ModelFacts,
    ModelIdentity,
    Predictions,
    PredictRequest,
    Problem,
    Status,
    StrictRequest,
)
from bertjax.inference.service.limits import RequestLimits, ServiceSettings
from bertjax.inference.service.model_slot import ServedModel
from bertjax.inference.service.page import page_routes
from bertjax.inference.service.request_batcher import ComputeFailed, QueueFull
from bertjax.inference.service.service import NotReady, OutOfTime, Rule, Service, TooMuch

_RETRY_SECONDS = "1"
_LONGEST_DETAIL = 400
_PACKAGES = ("jax", "jaxlib", "numpy", "transformers", "fastapi")


class _StrictRoute(APIRoute):
    """A route that reads its body as `StrictRequest` does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return handle


def build_app(
    models: Mapping[str, str],
    settings: ServiceSettings,
    rule: Rule | None = None,
    execution: Execution | None = None,
) -> FastAPI:
    """The application of a service that loads its model when the application starts.

    Args:
      models: names -> where each model is; the first one is put in service.
      settings: limits.
      rule: what has the last word on predictions.
      execution: how to run the networks.
    """
    service = Service(models, settings, rule, execution)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        service.close()

    return make_app(service, settings, lifespan)


def make_app(service: Service, settings: ServiceSettings, lifespan: Any = None) -> FastAPI:
    """The application of a service, which the caller starts.

    Args:
      service: answers.
      settings: its limits.
      lifespan: of the application.
    """
    app = FastAPI(
        title="bertjax",
        version=__version__,
        description="A fine-tuned BERT behind HTTP.",
        docs_url=None,  # these pages load scripts of another site
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(_routes(service))
    app.include_router(page_routes(service))
    for error, answer in _ERRORS.items():
        app.add_exception_handler(error, answer)
    app.add_middleware(RequestLimits, settings=settings, metrics=service.metrics)
    return app


def _routes(service: Service) -> APIRouter:
    asks = APIRouter(route_class=_StrictRoute, responses={code: _problem(text) for code, text in _PROBLEMS.items()})

    @asks.post("/predict")
    async def predict(request: PredictRequest) -> Predictions:
        """The model's answer to each text, pair or row."""
        model = service.model()
        predictions = await service.predict(model, request.entries(model.predictor.columns), request.options)
        if not request.probabilities:
            for prediction in predictions:
                prediction.pop("probabilities", None)
        return Predictions(predictions=predictions, model=_identity(model))

    @asks.post("/embed", responses={409: _problem("The model gives no vectors.")})
    async def embed(request: EmbedRequest) -> Embeddings:
        """A vector of length 1 for each text."""
        model = service.model()
        vectors = await service.embed(model, request.entries())
        return Embeddings(embeddings=vectors.tolist(), model=_identity(model))

    @asks.get("/model")
    async def model_facts() -> ModelFacts:
        """The model in service."""
        model = service.model()
        return ModelFacts(
            model=_identity(model),
            task=model.predictor.model.task,
            labels=list(model.predictor.model.labels),
            columns=list(model.predictor.columns),
            max_length=model.loaded.max_length,
            metrics=dict(model.metrics),
            versions={"bertjax": __version__, **{name: version(name) for name in _PACKAGES}},
            models=list(service.slot.addresses),
        )

    @asks.get("/health", responses={})
    async def health() -> Status:
        """Whether the process answers."""
        return Status(status="ok")

    @asks.get("/ready")
    async def ready() -> Status:
        """Whether the model is loaded and warm."""
        service.model()
        return Status(status="ready")

    @asks.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """What the server counts, for Prometheus."""
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return asks


_PROBLEMS = {
    400: "The body is no JSON.",
    401: "The key is missing or wrong.",
    408: "The body came too slowly.",
    413: "The body is too long, or has too many or too long texts.",
    422: "The body does not say what is to be done.",
    500: "The model failed at this request.",
    503: "Too much waits, the time is up, or no model is ready: try again after `Retry-After` seconds.",
}


def _problem(description: str) -> dict[str, Any]:
    return {"model": Problem, "description": description}


def _identity(model: ServedModel) -> ModelIdentity:
    return ModelIdentity(name=model.name, run_id=model.run_id, loaded=model.number)


def _answer(status: int, headers: Mapping[str, str] | None = None) -> Any:
    """A handler that answers an error with its message."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": _one_line(str(error))}, status, headers)

    return answer


def _one_line(message: str) -> str:
    line = " ".join(message.encode(errors="replace").decode().split())
    return line if len(line) <= _LONGEST_DETAIL else line[:_LONGEST_DETAIL] + " ..."


async def _invalid(request: Request, error: Any) -> JSONResponse:
    """The first things wrong with a body, by their places; never what stands there."""
    found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3]]
    return JSONResponse({"detail": _one_line("; ".join(found))}, 422)


_AGAIN = {"retry-after": _RETRY_SECONDS}
_ERRORS: dict[Any, Any] = {
    RequestValidationError: _invalid,
    TooMuch: _answer(413),
    ConfigError: _answer(409),
    UserError: _answer(422),
    ComputeFailed: _answer(500),
    QueueFull: _answer(503, _AGAIN),
    NotReady: _answer(503, _AGAIN),
    OutOfTime: _answer(503, _AGAIN),
}
