"""Evaluation of a model on a labelled table, with the same reading, batches and metrics as `finetune`'s test rows."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.config import Execution
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.token_checks import warn_of_unknown
from bertjax.data.read.content import frame_of_records
from bertjax.data.read.sources import ReadTable
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.table_cells import table_cells
from bertjax.data.split.labelled_table import parse_labelled_tables, read_labelled_tables
from bertjax.data.split.read_splits import with_losses
from bertjax.data.table import Side, Table
from bertjax.data.validate.data_report import DataReport
from bertjax.devices.data_parallel import all_devices
from bertjax.errors import ConfigError
from bertjax.evaluation.judged_rows import JudgedRows
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.metrics import reliability
from bertjax.metrics.fallback import Threshold, fit_threshold, report_fallback
from bertjax.metrics.reports import Report
from bertjax.prediction.forward import Forward, predict
from bertjax.tasks import find_format, find_postprocess, find_task
from bertjax.tasks.postprocess import AnswerOptions, Prediction, fallback_of

logger = logging.getLogger(__name__)


class EvaluationResult(NamedTuple):
    """The result of an evaluation.

    Attributes:
      judged: the rows that could be used, and the model's scores of them.
      table: the settings by which the rows were read.
      data_report: the rows that were read and skipped.
      threshold: below which a label gives way to the fallback in `report` and `predictions()`; None for none.
      fitted: where the threshold comes from, if it was fitted.
      fitted_temperature: that with the least log loss on the rows, where it was asked for and they tell one.
    """

    judged: JudgedRows
    table: Table
    data_report: DataReport
    threshold: float | None = None
    fitted: Threshold | None = None
    fitted_temperature: float | None = None

    @property
    def report(self) -> Report:
        """How the scores compare with the labels."""
        return self.judged.report

    def predictions(self) -> list[Prediction]:
        """The model's answer to each row, see `JudgedRows.predictions`."""
        return self.judged.predictions(AnswerOptions(threshold=self.threshold))


def evaluate(
    name: str | Path,
    source: str | Path,
    columns: Mapping[str, Any] | None = None,
    *,
    encoding: str = Table.encoding,
    on_bad_row: Literal["stop", "skip"] = Table.on_bad_row,
    threshold: float | Literal["fit"] | None = None,
    fit_temperature: bool = False,
    execution: Execution | None = None,
    keep_cells: bool = False,
) -> EvaluationResult:
    """Evaluates a model on the rows of a table.

    Args:
      name: a folder such as `model/` of a run, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's
        registry.
      source: the table: a file, a pattern, an address, or a name of the catalog.
      columns: fields of `Table` that are others than in training, such as `label` or `delimiter`.
      encoding, on_bad_row: as in `Table`.
      threshold: the least probability of a label, to be judged beside the model's own labels; below it a row gets the
        fallback. "fit": the one with the highest macro F1 on these rows, see `bertjax.metrics.fallback`.
      fit_temperature: whether to find the temperature with the least log loss on these rows, see
        `bertjax.metrics.reliability`; the model is judged with its own.
      execution: how to run the network.
      keep_cells: whether `JudgedRows.cells` has the rows' cells of all columns.

    Raises:
      UserError: there is no such model, its task cannot be evaluated, or the table does not fit it.
    """
    name, source = str(name), str(source)
    settings = {"train": source, "encoding": encoding, "on_bad_row": on_bad_row, **(columns or {})}
    loaded = load_model(name, execution, settings)
    task_format, table = find_format(loaded.model.task), loaded.table
    if threshold is not None:
        _check_single_labels(loaded.model.task)
    if fit_temperature and find_task(loaded.model.task).probabilities is None:
        raise ConfigError(
            f"a temperature is for models that give labels with probabilities; this one's task is {loaded.model.task}"
        )
    table, tables = read_labelled_tables(table, task_format, {"train": source}, loaded.preprocessing)
    rows = tables["train"].rows
    examples = loaded._replace(table=table).encode(rows, source)
    warn_of_unknown(loaded.tokenizer, examples, source)

    devices = all_devices()
    forward = partial(Forward(devices, loaded.model), devices.place(loaded.params))
    scores = predict(forward, devices.count, loaded.model.task, examples)
    report = loaded.report(scores, examples)
    data_report = with_losses(DataReport((tables["train"].report,)), [examples])
    for what, count in data_report.losses().items():
        logger.warning("%d %s", count, what)
    cells = table_cells(tables["train"].frame, rows.positions) if keep_cells else None
    judged = JudgedRows(loaded, rows, examples, scores, report, source, cells)
    temperature = reliability.fit_temperature(scores, examples.labels) if fit_temperature else None
    result = EvaluationResult(judged, table, data_report, fitted_temperature=temperature)
    return result if threshold is None else _with_threshold(result, threshold)


def _check_single_labels(task: str) -> None:
    if not {"label", "probabilities"} <= find_postprocess(task).columns.keys():
        raise ConfigError(
            f"a threshold with a fallback is for models that give a row one label; this one's task is {task}"
        )


def _with_threshold(result: EvaluationResult, threshold: float | Literal["fit"]) -> EvaluationResult:
    """The result with the metrics under a threshold beside the plain ones."""
    plain = result.predictions()
    names = list(plain[0]["probabilities"])
    fallback = fallback_of(names)
    probabilities = np.array([list(answer["probabilities"].values()) for answer in plain])
    indices = {name: index for index, name in enumerate(names)}
    labels = np.array([indices[answer["true"]] for answer in plain])
    fitted = None
    if threshold == "fit":
        fitted = fit_threshold(probabilities, labels, names, fallback)
        if fitted.value is None:
            return result._replace(fitted=fitted)
        threshold = fitted.value
    report = report_fallback(result.report, probabilities, labels, threshold, names, fallback)
    return result._replace(judged=result.judged._replace(report=report), threshold=threshold, fitted=fitted)


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
