"""Evaluation of a model on a labelled table, with the same reading, batches and metrics as `finetune`'s test rows."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.config import Execution
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.token_checks import warn_of_unknown
from bertjax.data.read.content import frame_of_records
from bertjax.data.read.sources import ReadTable
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.labelled_table import parse_labelled_tables, read_labelled_tables
from bertjax.data.split.read_splits import with_losses
from bertjax.data.table import Side, Table
from bertjax.data.validate.data_report import DataReport
from bertjax.evaluation.reports import Report
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.prediction.devices import all_devices
from bertjax.prediction.predict import Forward, predict
from bertjax.tasks import Model, find_evaluator, find_format, find_task
from bertjax.tasks.postprocess import AnswerOptions, Prediction

logger = logging.getLogger(__name__)


class EvaluationResult(NamedTuple):
    """The result of an evaluation.

    Attributes:
      model: the network.
      table: the settings by which the rows were read.
      rows: those that could be used, preprocessed; `positions` has the place of each in the table.
      examples: the rows, encoded.
      scores: of the network, one entry an example or a token.
      report: how the scores compare with the labels.
      data_report: the rows that were read and skipped.
    """

    model: Model
    table: Table
    rows: Rows
    examples: Examples
    scores: np.ndarray
    report: Report
    data_report: DataReport

    def predictions(self) -> list[Prediction]:
        """The model's answer to each row, beside its number, texts and true label; none where the task says nothing
        of a whole text (`Task.postprocess`)."""
        postprocess, rows = find_task(self.model.task).postprocess, self.rows
        if postprocess is None:
            return []
        answers = postprocess.answers(self.scores, rows, self.examples, self.model.labels, AnswerOptions())
        pairs = [{}] * len(rows.texts) if rows.pairs is None else [{"pair": pair} for pair in rows.pairs]
        return [
            {"row": position + 1, "text": text, **pair, "true": postprocess.label(label), **answer}
            for position, text, pair, label, answer in zip(
                rows.positions, rows.texts, pairs, rows.labels, answers, strict=True
            )
        ]


def evaluate(
    name: str,
    source: str,
    columns: Mapping[str, Any] | None = None,
    *,
    encoding: str = Table.encoding,
    on_bad_row: Literal["stop", "skip"] = Table.on_bad_row,
    execution: Execution | None = None,
) -> EvaluationResult:
    """Evaluates a model on the rows of a table.

    Args:
      name: a folder such as `model/` of a run, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's
        registry.
      source: the table: a file, a pattern, an address, or a name of the catalog.
      columns: fields of `Table` that are others than in training, such as `label` or `delimiter`.
      encoding, on_bad_row: as in `Table`.
      execution: how to run the network.

    Raises:
      UserError: there is no such model, its task cannot be evaluated, or the table does not fit it.
    """
    settings = {"train": source, "encoding": encoding, "on_bad_row": on_bad_row, **(columns or {})}
    loaded = load_model(name, execution, settings)
    task_format, table = find_format(loaded.model.task), loaded.table
    table, tables = read_labelled_tables(table, task_format, {"train": source}, loaded.preprocessing)
    rows = tables["train"].rows
    examples = loaded._replace(table=table).encode(rows, source)
    warn_of_unknown(loaded.tokenizer, examples, source)

    devices = all_devices()
    forward = partial(Forward(devices, loaded.model), devices.place(loaded.params))
    scores = predict(forward, devices.count, loaded.model.task, examples)
    report = find_evaluator(loaded.model.task)(scores, examples, loaded.model.labels)
    data_report = with_losses(DataReport((tables["train"].report,)), [examples])
    for what, count in data_report.losses().items():
        logger.warning("%d %s", count, what)
    return EvaluationResult(loaded.model, table, rows, examples, scores, report, data_report)


def encode_records(loaded: LoadedModel, records: Sequence[Mapping[str, Any]], source: str) -> tuple[Rows, Examples]:
    """Labelled rows that are in memory, read and encoded as those of a table of JSON; no file is opened.

    Args:
      loaded: the model.
      records: the cells of each row by column, the label among them; one or more.
      source: named in errors.

    Returns:
      The rows that have text after the preprocessing, and the examples made of them.

    Raises:
      DataError: a column, text or label that cannot be used.
      ConfigError: the model's task cannot be evaluated.
    """
    task_format = find_format(loaded.model.task)
    table = replace(loaded.table, train=source, contract=None, on_bad_row="stop")
    reads: dict[Side, ReadTable] = {"train": ReadTable(frame_of_records(records))}
    table, tables = parse_labelled_tables(table, task_format, {"train": source}, reads, loaded.preprocessing)
    rows = tables["train"].rows
    return rows, loaded._replace(table=table).encode(rows, source)
