"""Training rows whose label is a probability for each class, such as those of `bertjax label`."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bertjax.data.rows.cells import BadCell, read_number
from bertjax.data.rows.label_vocabulary import sorted_labels
from bertjax.data.rows.labelled_rows import ClassProbabilities, Rows
from bertjax.data.task_formats.task_format import TaskFormat
from bertjax.errors import DataError

_ROUNDING = 0.01  # of a sum of probabilities that were written with three decimals or so


def class_columns(columns: Iterable[Any], prefix: str, source: str) -> dict[str, str]:
    """Class -> the column of its probability; the class is what follows the prefix in the column's name.

    Args:
      columns: of the table.
      prefix: how those columns begin.
      source: named in the error.

    Raises:
      DataError: fewer than two columns begin so.
    """
    names = [str(column) for column in columns]
    found = {name.removeprefix(prefix): name for name in names if name.startswith(prefix) and name != prefix}
    if len(found) < 2:
        begin = "no column begins" if not found else f"only the column {next(iter(found.values()))!r} begins"
        raise DataError(
            f"{source}: {begin} with {prefix!r} (--label-probabilities), and two classes or more are needed; its "
            f"columns are {', '.join(names)}"
        )
    return {name: found[name] for name in sorted_labels(found)}


def with_probabilities(task_format: TaskFormat, columns: Mapping[str, str]) -> TaskFormat:
    """The format of a table with probabilities; the label that it reads is a tuple of them, in the order of `columns`,
    until `separated` puts them beside labels.

    Args:
      task_format: of tables with a class a row.
      columns: see `class_columns`.
    """
    return task_format._replace(
        label_columns=lambda table: tuple(columns.values()),
        read_label=lambda cells, table, texts: _read_probabilities(cells, tuple(columns.values())),
    )


def separated(rows: Rows, names: Iterable[str]) -> Rows:
    """Rows that were read with probabilities for labels: they keep these, and have their most probable class as label.

    Args:
      rows: as `with_probabilities` reads them.
      names: of the classes.
    """
    names = tuple(names)
    shares = np.array(rows.labels, np.float64).reshape(-1, len(names))
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    labels = [names[i] for i in shares.argmax(axis=1).tolist()]
    return rows._replace(labels=labels, probabilities=ClassProbabilities(names, shares))


def _read_probabilities(cells: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[float, ...]:
    shares = tuple(read_number(cells, column) for column in columns)
    for column, share in zip(columns, shares, strict=True):
        if not 0 <= share <= 1:
            raise BadCell(f"holds {share:g} in column {column!r}, where a probability must be from 0 to 1")
    total = math.fsum(shares)
    if abs(total - 1) > _ROUNDING:
        raise BadCell(f"has probabilities of sum {total:g} in {' and '.join(map(repr, columns))}; the sum must be 1")
    return shares
