"""A model judged on a labelled table, as `finetune` judges its test rows: the same reading, batches and metrics."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.config import Execution, read_config_json
from bertjax.data.encode.tokenize import load_tokenizer
from bertjax.data.rows.data_report import DataReport
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.labelled_table import read_labelled_tables
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding, format_of
from bertjax.evaluation.evaluators import EVALUATORS
from bertjax.evaluation.reports import Report
from bertjax.model_folder import (
    from_pretrained,
    stored_max_length,
    stored_preprocessing,
    stored_reading,
    stored_task,
)
from bertjax.prediction.devices import all_devices
from bertjax.prediction.forward import Forward
from bertjax.prediction.predict import predict
from bertjax.predictions import READOUTS, Prediction
from bertjax.tasks import Model
from bertjax.tracking.registry import find_model
from bertjax.training.settings.data_config import with_reading


class EvaluationResult(NamedTuple):
    """What a model is worth on some rows.

    Attributes:
      model: the network.
      table: the settings by which the rows were read.
      rows: those that could be used, preprocessed, with the position of each in the table.
      scores: what the network says, one entry an example or a token.
      data_report: what was read and skipped on the way.
    """

    model: Model
    table: Table
    rows: Rows
    scores: np.ndarray
    report: Report
    data_report: DataReport

    def predictions(self) -> list[Prediction]:
        """What the model says of each row, beside its number, texts and true label; none where the task says nothing
        of a text as a whole (see `bertjax.predictions`).
        """
        if self.model.task not in READOUTS:
            return []
        read, names, rows = READOUTS[self.model.task].read, self.model.labels, self.rows
        pairs = [{}] * len(rows.texts) if rows.pairs is None else [{"pair": pair} for pair in rows.pairs]
        return [
            {"row": place + 1, "text": text, **pair, "true": true, **read(scores, names)}
            for place, text, pair, true, scores in zip(
                rows.positions, rows.texts, pairs, rows.labels, self.scores, strict=True
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
    """Judges a model on the rows of a table.

    Args:
      name: a folder such as `model/` of a run, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's
        registry.
      source: the table: a file, a pattern, an address, or a name of the catalog.
      columns: fields of `Table` that are others than in training, such as `label`.
      encoding, on_bad_row: as in `Table`.
      execution: how to run the network.

    Raises:
      UserError: there is no such model, its task cannot be judged, or the table does not fit it.
    """
    folder = find_model(name)
    stored = read_config_json(folder)
    task_format, preprocessing = format_of(stored_task(stored)), stored_preprocessing(stored)
    config = with_reading(stored_reading(stored))
    texts = {"text": preprocessing.text, "text_pair": preprocessing.text_pair} if preprocessing.text else {}
    settings = {"train": source, "encoding": encoding, "on_bad_row": on_bad_row, **texts, **(columns or {})}
    table = replace(config.data, **settings)
    table, tables = read_labelled_tables(table, task_format, {"train": source}, preprocessing)
    rows = tables["train"].rows

    model, params = from_pretrained(folder, execution=execution)
    encoded_by = Encoding(load_tokenizer(folder), model.labels, stored_max_length(stored), table, config.masking)
    examples = task_format.encode(rows, source, encoded_by).fixed(table.split_seed)
    devices = all_devices()
    forward = partial(Forward(devices, model), devices.place(params))
    scores = predict(forward, devices.count, examples)
    report = EVALUATORS[model.task](scores, examples, model.labels)
    return EvaluationResult(model, table, rows, scores, report, DataReport((tables["train"].report,)))
