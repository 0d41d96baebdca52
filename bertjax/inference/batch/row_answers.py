"""A chunk of rows to its answers: the three steps of a predictor, and what of the answers is kept as columns."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import BadRow
from bertjax.errors import ConfigError
from bertjax.inference.batch.plain_values import plain_cells
from bertjax.inference.batch.row_source import Chunk, RowSource
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Predictor, Prepared, Text
from bertjax.tasks import find_postprocess
from bertjax.tasks.postprocess import AnswerOptions, Prediction

EMBEDDING = "embedding"

Rule = Callable[[Sequence[Prediction], Sequence[Text]], list[Prediction]]
"""(predictions without a threshold, the cells of each row by column) -> what becomes of them."""


class Request(NamedTuple):
    """What is written of the answers.

    Attributes:
      options: of the answers themselves.
      probabilities, entities: whether these are written.
      embeddings: whether the vector of each text is.
      rule: decides in the place of a threshold.
      prefix: of the names of all columns of answers.
    """

    options: AnswerOptions = AnswerOptions()
    probabilities: bool = False
    entities: bool = False
    embeddings: bool = False
    rule: Rule | None = None
    prefix: str = ""


def check_threshold(threshold: float | None, task: str) -> None:
    """Raises a ConfigError where a threshold is none of a task's answers."""
    if threshold is None:
        return
    columns = find_postprocess(task).columns
    if not {"label", "labels", "margin"} & set(columns):
        raise ConfigError(f"--threshold: a model of task {task!r} gives no label to decide on; leave it out")
    if not math.isfinite(threshold) or ("margin" not in columns and not 0 <= threshold <= 1):
        raise ConfigError(f"--threshold {threshold} is no probability; give one in [0, 1]")


class Answered(NamedTuple):
    """The usable rows of a chunk with their answers.

    Attributes:
      part: that the rows belong to.
      rows: readable ones of the chunk, answered or not.
      frame: all input columns of the answered rows.
      answers: column -> a value for each of these rows.
      left_out: the other rows.
    """

    part: int
    rows: int
    frame: pd.DataFrame
    answers: dict[str, list[Any]]
    left_out: list[BadRow]


class _Read(NamedTuple):
    """A chunk, tokenized; nothing is where no row of it is usable."""

    chunk: Chunk
    frame: pd.DataFrame
    texts: list[Any]
    left_out: list[BadRow]
    prepared: Prepared | None


class _Scored(NamedTuple):
    read: _Read
    scores: np.ndarray | None
    vectors: np.ndarray | None


class _Embeds(Protocol):
    def embed(self, texts: Sequence[Text]) -> np.ndarray: ...


class RowAnswerer:
    """A model that answers chunks of rows, in three steps that may run in three threads."""

    def __init__(self, loaded: LoadedModel, source: RowSource, request: Request):
        """A model on this process's devices.

        Raises:
          ConfigError: the model's task predicts nothing of a row.
        """
        self._source, self._request = source, request
        self._predictor = Predictor(loaded)

    def __call__(self, chunk: Chunk) -> Answered:
        """All three steps."""
        return self.answer(self.compute(self.read(chunk)))

    def read(self, chunk: Chunk) -> _Read:
        """The usable rows, tokenized."""
        entries = self._source.entries(chunk.frame, chunk.origins)
        frame = chunk.frame if len(entries.usable) == len(chunk.frame) else chunk.frame.iloc[entries.usable]
        prepared = self._predictor.prepare(entries.texts) if entries.texts else None
        left_out = sorted(chunk.broken + entries.bad, key=lambda row: (row.source, row.line))
        return _Read(chunk, frame.reset_index(drop=True), entries.texts, left_out, prepared)

    def compute(self, read: _Read) -> _Scored:
        """The scores of the network."""
        if read.prepared is None:
            return _Scored(read, None, None)
        (scores,) = self._predictor.compute([read.prepared])
        embeds = cast(_Embeds, self._predictor)
        return _Scored(read, scores, embeds.embed(read.texts) if self._request.embeddings else None)

    def answer(self, scored: _Scored) -> Answered:
        """The answers in words, column by column.

        Raises:
          ConfigError: something is asked for that the task does not give.
        """
        read, answers = scored.read, dict[str, list[Any]]()
        if read.prepared is not None and scored.scores is not None:
            predictions = self._predictor.answer(read.prepared, scored.scores, self._request.options)
            if self._request.rule is not None:
                predictions = self._request.rule(predictions, _records(read.frame))
            answers = self._columns(predictions)
        if scored.vectors is not None:
            answers[EMBEDDING] = list(scored.vectors)
        named = {self._request.prefix + name: values for name, values in answers.items()}
        return Answered(read.chunk.part, len(read.chunk.frame), read.frame, named, read.left_out)

    def _columns(self, predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        request, task = self._request, self._predictor.model.task
        asked = {"probabilities": request.probabilities, "entities": request.entities, "top": request.options.top_k > 0}
        names = dict.fromkeys(name for prediction in predictions for name in prediction)
        for name, is_asked in asked.items():
            if is_asked and name not in names:
                flag = "--top-k" if name == "top" else f"--{name}"
                raise ConfigError(f"{flag}: a model of task {task!r} gives none; leave it out")
        kept = [name for name in names if asked.get(name, True)]
        return {name: [prediction.get(name) for prediction in predictions] for name in kept}


def _records(frame: pd.DataFrame) -> list[Mapping[str, Any]]:
    columns = [plain_cells(frame[name]) for name in frame.columns]
    return [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]
