"""A chunk of rows to its answers: the three steps of a predictor, and what of the answers is kept as columns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import BadRow
from bertjax.errors import ConfigError, DataError
from bertjax.inference.batch.plain_values import plain_cells
from bertjax.inference.batch.row_source import Chunk, Origin, RowSource
from bertjax.inference.decision_rule import DecisionRule, RuleFailed
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Predictor, Prepared
from bertjax.tasks import find_postprocess, find_task
from bertjax.tasks.postprocess import AnswerOptions, Prediction

EMBEDDING = "embedding"


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
    rule: DecisionRule | None = None
    prefix: str = ""


def gives_vectors_alone(task: str, request: Request) -> bool:
    """Whether rows are single texts that get their vectors and no answers: the task has none, or has them of groups of
    texts.

    Raises:
      ConfigError: something is asked for that the task does not give.
    """
    entry = find_task(task)
    is_grouped = entry.format is not None and entry.format.grouped
    if entry.postprocess is None and not request.embeddings:
        raise ConfigError(f"a model of task {task!r} says nothing of a text in words; --embeddings writes its vectors")
    if request.embeddings and (entry.postprocess is None or is_grouped):
        if request != Request(embeddings=True, prefix=request.prefix):
            raise ConfigError(f"--embeddings of a model of task {task!r} writes vectors alone; leave out other answers")
        return True
    check_threshold(request.options.threshold, task)
    return False


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
    """A chunk, tokenized.

    Attributes:
      frame, origins: its usable rows, and where each stands.
      left_out: the other rows.
      answers, vectors: ready for the network; None where that is not asked for, or no row is usable.
    """

    chunk: Chunk
    frame: pd.DataFrame
    origins: list[Origin]
    left_out: list[BadRow]
    answers: Prepared | None
    vectors: Prepared | None


class _Scored(NamedTuple):
    read: _Read
    scores: np.ndarray | None
    vectors: np.ndarray | None


class RowAnswerer:
    """A model that answers chunks of rows, in three steps that may run in three threads."""

    def __init__(self, loaded: LoadedModel, source: RowSource, request: Request):
        """A model on this process's devices."""
        self._source, self._request = source, request
        self._predictor = Predictor(loaded)

    def __call__(self, chunk: Chunk) -> Answered:
        """All three steps."""
        return self.answer(self.compute(self.read(chunk)))

    def read(self, chunk: Chunk) -> _Read:
        """The usable rows, tokenized.

        Raises:
          ConfigError: vectors are asked for, and the model has none.
        """
        entries = self._source.entries(chunk.frame, chunk.origins)
        frame = chunk.frame if len(entries.usable) == len(chunk.frame) else chunk.frame.iloc[entries.usable]
        origins = [chunk.origins[i] for i in entries.usable]
        left_out = sorted(chunk.broken + entries.bad, key=lambda row: (row.source, row.line))

        def prepared(is_asked: bool, vectors: bool) -> Prepared | None:
            return self._predictor.prepare(entries.texts, vectors) if is_asked and entries.texts else None

        answers, vectors = prepared(not self._source.vectors, False), prepared(self._request.embeddings, True)
        return _Read(chunk, frame.reset_index(drop=True), origins, left_out, answers, vectors)

    def compute(self, read: _Read) -> _Scored:
        """The scores and vectors of the network, computed one after the other."""
        scores, vectors = (
            None if prepared is None else self._predictor.compute([prepared])[0]
            for prepared in (read.answers, read.vectors)
        )
        return _Scored(read, scores, vectors)

    def answer(self, scored: _Scored) -> Answered:
        """The answers in words, column by column.

        Raises:
          ConfigError: something is asked for that the task does not give.
          DataError: the rule has no answer to a row.
        """
        read, answers = scored.read, dict[str, list[Any]]()
        if read.answers is not None and scored.scores is not None:
            predictions = self._predictor.answer(read.answers, scored.scores, self._request.options)
            answers = self._columns(self._ruled(predictions, read))
        if scored.vectors is not None:
            answers[EMBEDDING] = list(scored.vectors)
        named = {self._request.prefix + name: values for name, values in answers.items()}
        return Answered(read.chunk.part, len(read.chunk.frame), read.frame, named, read.left_out)

    def _ruled(self, predictions: list[Prediction], read: _Read) -> list[Prediction]:
        """What the user's rule leaves of the answers."""
        if self._request.rule is None:
            return predictions
        try:
            return self._request.rule(predictions, _records(read.frame))
        except RuleFailed as error:
            origin = read.origins[error.index]
            raise DataError(str(BadRow(origin.source, origin.line, error.reason, origin.unit))) from error

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
