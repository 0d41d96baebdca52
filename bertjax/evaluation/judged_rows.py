"""`JudgedRows`: labelled rows with a model's scores, from which all of evaluation is computed; `ScoredRows` without the
texts, as of a stream."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.table_cells import TableCells
from bertjax.inference.loaded_model import LoadedModel
from bertjax.metrics.reports import Report
from bertjax.report_pages.blocks import Section
from bertjax.report_pages.markdown_report import render_section
from bertjax.tasks import Model, find_task
from bertjax.tasks.postprocess import AnswerOptions, Prediction


class ScoredRows(NamedTuple):
    """A model's scores of labelled rows, without their texts.

    Attributes:
      model: the network.
      temperature: by which its scores are divided where they become probabilities.
      labels: as the task has them.
      scores: of the network (`Task.scores`), before the temperature.
      report: how the scores compare with the labels.
      num_rows: their number; a row may be several examples.
    """

    model: Model
    temperature: float
    labels: np.ndarray
    scores: np.ndarray
    report: Report
    num_rows: int


class JudgedRows(NamedTuple):
    """A model's scores of labelled rows.

    Attributes:
      loaded: the model.
      rows: labelled, preprocessed; `positions` has the place of each in its table.
      examples: the rows, encoded.
      scores: of the network (`Task.scores`), one entry an example or a token, before the model's temperature.
      report: how the scores compare with the labels.
      source: the table, for messages.
      cells: what the rows have in all columns of their table, where that was asked for.
    """

    loaded: LoadedModel
    rows: Rows
    examples: Examples
    scores: np.ndarray
    report: Report
    source: str
    cells: TableCells | None = None

    @property
    def scored(self) -> ScoredRows:
        """The scores by themselves."""
        loaded = self.loaded
        return ScoredRows(
            loaded.model, loaded.temperature, self.examples.labels, self.scores, self.report, len(self.rows.texts)
        )

    @property
    def probabilities(self) -> np.ndarray | None:
        """[N, L] probability of each label of each row, as the model gives it; None for a task without
        (`Task.probabilities`)."""
        probabilities = find_task(self.loaded.model.task).probabilities
        return None if probabilities is None else probabilities(self.loaded.calibrated(self.scores))

    def predictions(self, options: AnswerOptions | None = None) -> list[Prediction]:
        """The model's answer to each row, beside its number, texts and true label; none where the task says nothing of
        a whole text (`Task.postprocess`), or says it by other scores than those that are evaluated."""
        postprocess, rows = find_task(self.loaded.model.task).postprocess, self.rows
        if postprocess is None or postprocess.readout is not None:
            return []
        answers = self.loaded.answers(self.scores, rows, self.examples, options or AnswerOptions())
        pairs = [{}] * len(rows.texts) if rows.pairs is None else [{"pair": pair} for pair in rows.pairs]
        return [
            {"row": position + 1, "text": text, **pair, "true": postprocess.label(label), **answer}
            for position, text, pair, label, answer in zip(
                rows.positions, rows.texts, pairs, rows.labels, answers, strict=True
            )
        ]


class Finding(NamedTuple):
    """What one look at the judged rows has found.

    Attributes:
      section: of the report.
      metrics: flat, without the side, such as `slice/short_text/f1_micro`.
      files: name -> content of further files of the result's folder.
    """

    section: Section
    metrics: Mapping[str, float] = {}
    files: Mapping[str, str] = {}

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """What a notebook shows, and keeps."""
        return dict.fromkeys(("text/markdown", "text/plain"), render_section(self.section))
