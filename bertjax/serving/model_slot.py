"""`ModelSlot`: the model in service, replaced by another one without downtime, once that is loaded and warmed up."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertjax.config import Execution, Pooling
from bertjax.errors import Stopped, UserError
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.inference.predictor import Predictor, Prepared
from bertjax.pretrained.files import resolve_model
from bertjax.serving.request_batcher import BatchLimits, RequestBatcher
from bertjax.serving.service_metrics import ServiceMetrics
from bertjax.settings import require_known
from bertjax.tasks import find_postprocess, find_task
from bertjax.tracking.event_log import FILE, EventLog
from bertjax.training.run.run_folder import MODEL, read_metrics

logger = logging.getLogger(__name__)

_WARMED = 32  # lengths in tokens; between so many it can stop
_PIECES = 4  # of a batch that a long list is cut into at least, so that others find room beside it


class ServedModel(NamedTuple):
    """A model that answers.

    Attributes:
      name: in the slot.
      number: counts the models that the slot has had, from 1.
      run_id: the tracker's id of the run that trained it, where known.
      metrics: that its run reached; none where its folder stands alone.
      loaded: how it reads rows.
      gives_vectors: whether programs for its vectors are compiled.
      predictor: answers.
      batcher: joins requests; prepared texts -> their scores or vectors.
    """

    name: str
    number: int
    run_id: str | None
    metrics: Mapping[str, float]
    loaded: LoadedModel
    gives_vectors: bool
    predictor: Predictor
    batcher: RequestBatcher[Prepared, np.ndarray]


class ModelSlot:
    """The model in service.

    Attributes:
      addresses: names that may be put in service -> where each model is. Nothing else is ever read.
      current: the model; None until the first one is warm.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        limits: BatchLimits,
        metrics: ServiceMetrics,
        check: Callable[[Predictor], None] = lambda predictor: None,
        embed: bool = False,
        pooling: Pooling | None = None,
        execution: Execution | None = None,
    ):
        """Loads nothing yet.

        Args:
          addresses: names -> folders, hub ids, names of the catalog, or `models:/NAME@ALIAS`.
          limits: how requests are joined.
          metrics: are told of each batch.
          check: raises a UserError where a model is not fit for the service.
          embed: whether models that are not made for vectors give them too.
          pooling: of a bare encoder that does not say how a text becomes one vector.
          execution: how to run the networks.
        """
        self.addresses = dict(addresses)
        self.current: ServedModel | None = None
        self._limits, self._metrics, self._check = limits, metrics, check
        self._embed, self._pooling, self._execution = embed, pooling, execution
        self._number = 0
        self._is_closed = False
        self._putting = asyncio.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether a model is on its way."""
        return self._putting.locked()

    async def put(self, name: str, loaded: LoadedModel | None = None) -> ServedModel:
        """Loads a model, warms it and puts it in service. Requests on their way end on the model they began with.

        Args:
          name: one of `addresses`.
          loaded: the model, where it has been read already.

        Raises:
          UserError: the name is unknown, or the model cannot be used; the one in service stays.
        """
        address = require_known("model", name, self.addresses)
        async with self._putting:
            self.current = await asyncio.to_thread(self._served, name, address, loaded)
            return self.current

    def close(self) -> None:
        """Puts no other model in service; one on its way ends as `Stopped` soon."""
        self._is_closed = True

    def _served(self, name: str, address: str, loaded: LoadedModel | None) -> ServedModel:
        started = time.monotonic()
        loaded = loaded or read_model(address, self._execution, self._pooling)
        predictor = Predictor(loaded)
        self._check(predictor)
        task = find_task(loaded.model.task)
        gives_vectors = predictor.has_vectors and (self._embed or task.unit_vectors or task.postprocess is None)
        self._warm_up(predictor, gives_vectors)
        self._number += 1
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"compute-{self._number}")
        compute = partial(_compute, predictor, self._metrics.observe_padded)
        batcher = RequestBatcher(compute, _tokens_of, thread, self._limits, self._metrics.observe_batch)
        run_id, metrics = _run_of(resolve_model(address))
        logger.info("model %s (%s) is ready after %.1f s", name, address, time.monotonic() - started)
        return ServedModel(name, self._number, run_id, metrics, loaded, gives_vectors, predictor, batcher)

    def _warm_up(self, predictor: Predictor, vectors: bool) -> None:
        """Compiles every shape that requests can have, a few lengths at a time.

        Raises:
          Stopped: the service was closed.
        """
        for longest in sorted({*range(_WARMED, predictor.max_length, _WARMED), predictor.max_length}):
            if self._is_closed:
                raise Stopped("the service ended before its model was warm")
            predictor.warm_up(longest, vectors=vectors)


def read_model(address: str, execution: Execution | None = None, pooling: Pooling | None = None) -> LoadedModel:
    """Reads a model folder for a service.

    Raises:
      UserError: there is no such model, it does not fit, or it gives neither answers nor vectors.
    """
    loaded = load_model(address, execution, pooling=pooling)
    if find_task(loaded.model.task).pooling is None:
        find_postprocess(loaded.model.task)  # raises where it has none
    return loaded._replace(max_length=min(loaded.max_length, loaded.model.config.max_length))


def split_prepared(prepared: Prepared, batch_tokens: int) -> list[Prepared]:
    """Prepared texts in pieces of whole examples, for a batcher.

    Args:
      prepared: one or more texts.
      batch_tokens: of a batch; a piece has a quarter of it, unless one example has more.
    """
    size = batch_tokens // _PIECES
    if prepared.num_tokens <= size:
        return [prepared]
    examples = prepared.examples
    pieces, first = [], 0
    while first < examples.num_examples:
        last = int(np.searchsorted(examples.offsets, examples.offsets[first] + size, side="right")) - 1
        end = max(last, first + 1)
        pieces.append(prepared._replace(examples=examples.at(np.arange(first, end))))
        first = end
    return pieces


def _compute(predictor: Predictor, observe: Callable[[int], None], parts: list[Prepared]) -> list[np.ndarray]:
    """`Predictor.compute`, with the tokens that it computed; nothing else uses the predictor meanwhile."""
    before = predictor.computed_tokens
    scores = predictor.compute(parts)
    observe(predictor.computed_tokens - before)
    return scores


def _tokens_of(prepared: Prepared) -> int:
    return prepared.num_tokens


def _run_of(folder: Path) -> tuple[str | None, Mapping[str, float]]:
    """The tracker's id and the metrics of the run that a model folder is part of, where it is part of one."""
    run = folder.resolve().parent
    if folder.name != MODEL:
        return None, {}
    try:
        return EventLog(run / FILE).identity.get("run_id"), read_metrics(run) or {}
    except UserError as error:  # the model can answer without them
        logger.warning("the run of model %s cannot be read: %s", folder, error)
        return None, {}
