"""The rows that simple models learn from, where a model stands beside them that was trained elsewhere."""

import logging
from dataclasses import replace

import numpy as np

from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.row_hashes import hash64
from bertjax.data.split.labelled_table import read_labelled_tables
from bertjax.data.split.split_rows import first_of_each, leak_hashes
from bertjax.errors import DataError
from bertjax.evaluation.judged_rows import Finding, JudgedRows
from bertjax.evaluation.simple_models.beside_report import (
    beside_simple_models,
    check_simple_models,
    check_training_rows,
)
from bertjax.evaluation.simple_models.beside_settings import BesideTable
from bertjax.evaluation.simple_models.simple_model import Labelled
from bertjax.inference.loaded_model import LoadedModel
from bertjax.tasks import find_format

logger = logging.getLogger(__name__)


def beside_table(judged: JudgedRows, settings: BesideTable) -> Finding:
    """A model beside simple ones that are fitted on a table; see `beside_simple_models`.

    Raises:
      UserError: a simple model cannot learn the task, or the table or a file cannot be used.
    """
    assert settings.beside_train is not None, "checked with the settings"
    model = judged.loaded.model
    check_simple_models(settings, model.task)
    train = training_rows(judged.loaded, judged.rows, settings.beside_train)
    check_training_rows(settings, model.task, model.labels, train, settings.beside_train)
    test = Labelled(judged.rows, judged.examples)
    return beside_simple_models(model.task, model.labels, test, judged.report, train, settings)


def training_rows(loaded: LoadedModel, judged: Rows, source: str) -> Labelled:
    """Rows of a table, read and cleaned as the model's were; of a repeated text the first row stays, and none that is
    among the judged rows.

    Args:
      loaded: the model, with the settings of the judged table.
      judged: rows that are not learned from.
      source: the table.

    Raises:
      DataError: a column, text or label that cannot be used, or no row is left.
    """
    task_format = find_format(loaded.model.task)
    table = replace(loaded.table, train=source, contract=None, label_probabilities=None)
    table, tables = read_labelled_tables(table, task_format, {"train": source}, loaded.preprocessing)
    rows, compared = tables["train"].preprocessed
    distinct = first_of_each(hash64(rows.text_pairs() if compared is None else compared))
    is_leak = np.isin(leak_hashes(rows)[distinct], leak_hashes(judged))
    kept = distinct[~is_leak]
    if not len(kept):
        raise DataError(f"{source}: every text stands in the judged rows too; give --beside-train other rows")
    logger.info(
        "%s: %d rows for the simple models (%d duplicate rows dropped, %d that stand in the judged rows)",
        source, len(kept), len(rows.texts) - len(distinct), int(is_leak.sum()),
    )  # fmt: skip
    rows = rows.take(kept.tolist())
    return Labelled(rows, loaded._replace(table=table).encode(rows, source))
