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
from bertjax.tasks import find_postprocess, find_task, find_vectors
from bertjax.tasks.postprocess import AnswerOptions, Prediction

EMBEDDING = "embedding"
ON_REQUEST = ("probabilities", "entities")  # answers that are written where a flag of their name asks for them


class Request(NamedTuple):
    """What is written of the answers.

    Attributes:
      options: of the answers themselves.
      probabilities, entities: whether these are written.
      embeddings: whether the vector of each text is.
      rule: decides instead of a threshold.
      prefix: of the names of all columns of answers.
    """

    options: AnswerOptions = AnswerOptions()
    probabilities: bool = False
    entities: bool = False
    embeddings: bool = False
    rule: DecisionRule | None = None
    prefix: str = ""


def vectors_alone(task: str, request: Request) -> bool:
    """Whether rows are single texts that get a vector and no answer: of a task without answers, and of one that answers
    groups of texts."""
    entry = find_task(task)
    is_grouped = entry.format is not None and entry.format.grouped
    return request.embeddings and (entry.postprocess is None or is_grouped)


def check_request(request: Request, loaded: LoadedModel) -> None:
    """Checks, before any row is read, that a model can answer as it is asked.

    Raises:
      ConfigError: it cannot.
    """
    task, threshold = loaded.model.task, request.options.threshold
    if request.embeddings:
        find_vectors(task)
        if not loaded.pooling_known:
            raise ConfigError(
                "--embeddings: the model was saved without saying how its vectors are pooled; give --pooling mean, cls "
                "or pooler"
            )
    if vectors_alone(task, request):
        if request != Request(embeddings=True, prefix=request.prefix):
            raise ConfigError(f"--embeddings of a model of task {task!r} writes vectors alone; leave out other answers")
        return
    entry = find_task(task)
    if entry.postprocess is None and entry.pooling is not None:
        raise ConfigError(f"a model of task {task!r} says nothing of a text in words; --embeddings writes its vectors")
    postprocess = find_postprocess(task)
    postprocess.check(request.options, task)
    if threshold is not None and (
        not math.isfinite(threshold) or ("margin" not in postprocess.columns and not 0 <= threshold <= 1)
    ):
        raise ConfigError(f"--threshold {threshold} is no probability; give one in [0, 1]")
    for name in ON_REQUEST:
        if getattr(request, name) and name not in postprocess.columns:
            raise ConfigError(f"--{name}: a model of task {task!r} gives none; leave it out")


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
    """A chunk, tokenized for its answers and its vectors; neither is where nothing is to compute."""

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
        """A model on this process's devices; see `check_request`."""
        self._source, self._request = source, request
        self._predictor = Predictor(loaded)

    def __call__(self, chunk: Chunk) -> Answered:
        """All three steps."""
        return self.answer(self.compute(self.read(chunk)))

    def read(self, chunk: Chunk) -> _Read:
        """The usable rows, tokenized."""
        entries = self._source.entries(chunk.frame, chunk.origins)
        frame = chunk.frame if len(entries.usable) == len(chunk.frame) else chunk.frame.iloc[entries.usable]
        texts, prepare = entries.texts, self._predictor.prepare
        answers = prepare(texts) if texts and not self._source.vectors else None
        vectors = prepare(texts, vectors=True) if texts and self._request.embeddings else None
        origins = [chunk.origins[i] for i in entries.usable]
        left_out = sorted(chunk.broken + entries.bad, key=lambda row: (row.source, row.line))
        return _Read(chunk, frame.reset_index(drop=True), origins, left_out, answers, vectors)

    def compute(self, read: _Read) -> _Scored:
        """The scores of the network."""
        scores, vectors = (
            None if prepared is None else self._predictor.compute([prepared])[0]
            for prepared in (read.answers, read.vectors)
        )
        return _Scored(read, scores, vectors)

    def answer(self, scored: _Scored) -> Answered:
        """The answers in words, column by column.

        Raises:
          DataError: the rule fails for a row.
        """
        read, answers = scored.read, dict[str, list[Any]]()
        if read.answers is not None and scored.scores is not None:
            predictions = self._predictor.answer(read.answers, scored.scores, self._request.options)
            if self._request.rule is not None:
                predictions = _ruled(self._request.rule, predictions, read)
            answers = self._columns(predictions)
        if scored.vectors is not None:
            answers[EMBEDDING] = list(scored.vectors)
        named = {self._request.prefix + name: values for name, values in answers.items()}
        return Answered(read.chunk.part, len(read.chunk.frame), read.frame, named, read.left_out)

    def _columns(self, predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        names = dict.fromkeys(name for prediction in predictions for name in prediction)
        kept = [name for name in names if name not in ON_REQUEST or getattr(self._request, name)]
        return {name: [prediction.get(name) for prediction in predictions] for name in kept}


def _ruled(rule: DecisionRule, predictions: Sequence[Prediction], read: _Read) -> list[Prediction]:
    """What a rule makes of predictions; raises DataError with the place of a row for which it fails."""
    try:
        return rule(predictions, _records(read.frame))
    except RuleFailed as error:
        source, line, unit = read.origins[error.index]
        raise DataError(f"{source}: {unit} {line}: {error.reason}") from error


def _records(frame: pd.DataFrame) -> list[Mapping[str, Any]]:
    columns = [plain_cells(frame[name]) for name in frame.columns]
    return [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]
