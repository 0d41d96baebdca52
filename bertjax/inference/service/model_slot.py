"""`ModelSlot`: the model in service. Another one takes its place when it is loaded and warm; nothing waits for that."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertjax.config import Execution
from bertjax.errors import ConfigError, UserError
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.inference.predictor import Predictor, Prepared
from bertjax.inference.service.request_batcher import BatchFacts, BatchLimits, RequestBatcher
from bertjax.pretrained.files import resolve_model
from bertjax.settings import require_known
from bertjax.tracking.event_log import FILE, EventLog

logger = logging.getLogger(__name__)

_PIECES = 4  # of a batch that a long list is cut into at least, so that others find room beside it


class ServedModel(NamedTuple):
    """A model that answers.

    Attributes:
      name: in the slot.
      number: counts the models of a slot, from 1.
      run_id: the tracker's id of the run that trained it, where known.
      metrics: that its run reached; none where its folder stands alone.
      loaded: how it reads rows.
      predictor: answers.
      scores: joins requests for answers: pieces of prepared texts -> their scores.
      vectors: joins requests for vectors: lists of texts -> float32 [n, D].
    """

    name: str
    number: int
    run_id: str | None
    metrics: Mapping[str, float]
    loaded: LoadedModel
    predictor: Predictor
    scores: RequestBatcher[Prepared, np.ndarray]
    vectors: RequestBatcher[Sequence[str], np.ndarray]


class ModelSlot:
    """The model in service.

    Attributes:
      addresses: names that may be put in service -> where each model is. No other address is ever read.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        limits: BatchLimits,
        observe: Callable[[BatchFacts], None],
        execution: Execution | None = None,
    ):
        """Loads nothing yet.

        Args:
          addresses: names -> folders, hub ids, names of the catalog, or `models:/NAME@ALIAS`.
          limits: how requests are joined.
          observe: is told of each batch.
          execution: how to run the networks.
        """
        self.addresses = dict(addresses)
        self._limits, self._observe, self._execution = limits, observe, execution
        self._current: ServedModel | None = None
        self._number = 0
        self._loading = asyncio.Lock()

    @property
    def current(self) -> ServedModel | None:
        """The model in service; None until the first one is warm."""
        return self._current

    @property
    def is_loading(self) -> bool:
        """Whether a model is on its way."""
        return self._loading.locked()

    async def put(self, name: str, loaded: LoadedModel | None = None) -> ServedModel:
        """Loads a model, warms it and puts it in service; requests on their way end on the model they began with.

        Args:
          name: one of `addresses`.
          loaded: the model, where it has been read already.

        Raises:
          UserError: the name is unknown, or the model cannot be used.
        """
        address = require_known("model", name, self.addresses)
        async with self._loading:
            served = await asyncio.to_thread(self._load, name, address, loaded)
            self._current = served
            return served

    def _load(self, name: str, address: str, loaded: LoadedModel | None) -> ServedModel:
        started = time.monotonic()
        folder = resolve_model(address)
        loaded = loaded or read_model(address, self._execution)
        predictor = Predictor(loaded)
        warm_up(predictor, loaded)
        self._number += 1
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"compute-{self._number}")
        run_id, metrics = _run_of(folder)
        logger.info("model %s (%s) is warm after %.1f s", name, address, time.monotonic() - started)
        return ServedModel(
            name,
            self._number,
            run_id,
            metrics,
            loaded,
            predictor,
            RequestBatcher(predictor.compute, tokens_of_prepared, thread, self._limits, self._observe),
            RequestBatcher(_vectors_of(predictor), _tokens_of_texts, thread, self._limits, self._observe),
        )


def read_model(address: str, execution: Execution | None = None) -> LoadedModel:
    """Reads a model folder for serving.

    Raises:
      UserError: there is no such model, or it cannot answer.
    """
    loaded = load_model(address, execution)
    longest = min(loaded.max_length, loaded.model.config.max_position_embeddings)
    return loaded._replace(max_length=longest)


def tokens_of_prepared(prepared: Prepared) -> int:
    """Tokens of prepared texts."""
    return prepared.num_tokens


def split_prepared(prepared: Prepared, batch_tokens: int) -> list[Prepared]:
    """Prepared texts in pieces of whole examples, for a batcher.

    Args:
      prepared: one or more texts.
      batch_tokens: of a batch; a piece has a quarter of it, unless one example has more.
    """
    examples, size = prepared.examples, batch_tokens // _PIECES
    if prepared.num_tokens <= size:
        return [prepared]
    pieces, first = [], 0
    while first < examples.num_examples:
        end = int(np.searchsorted(examples.offsets, examples.offsets[first] + size, side="right")) - 1
        end = max(end, first + 1)
        pieces.append(prepared._replace(examples=examples.at(np.arange(first, end))))
        first = end
    return pieces


def warm_up(predictor: Predictor, loaded: LoadedModel) -> None:
    """Compiles every shape that the batcher can ask for."""
    length = 32
    while True:
        words = min(length, loaded.max_length) - 2
        for rows in (1, 8, max(4096 // length, 8)):
            predictor.logits(["a " * words] * rows)
        if length >= loaded.max_length:
            break
        length *= 2


def _vectors_of(predictor: Predictor) -> Callable[[list[Sequence[str]]], Sequence[np.ndarray]]:
    def vectors(parts: list[Sequence[str]]) -> Sequence[np.ndarray]:
        embed = getattr(predictor, "embed", None)
        if embed is None:
            raise ConfigError("the model gives no vectors")
        embedded = embed([text for part in parts for text in part])
        return np.split(embedded, np.cumsum([len(part) for part in parts])[:-1])

    return vectors


def _tokens_of_texts(texts: Sequence[str]) -> int:
    """About as many tokens as texts have; they are counted before they are tokenized."""
    return sum(len(text) // 4 + 2 for text in texts)


def _run_of(folder: Path) -> tuple[str | None, Mapping[str, float]]:
    """The tracker's id and the metrics of the run that a model folder is part of, where it is one."""
    run = folder.resolve().parent
    try:
        run_id = EventLog(run / FILE).identity.get("run_id") if (run / FILE).is_file() else None
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8")) if run_id else {}
        return run_id, metrics
    except (OSError, ValueError, UserError):
        return None, {}
