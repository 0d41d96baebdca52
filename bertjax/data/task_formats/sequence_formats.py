"""One label per text or pair of texts: a class, several classes, or numbers."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.cells import (
    read_flag,
    read_label,
    read_number,
)
from bertjax.data.rows.label_vocabulary import class_indices, label_indices, label_vocabulary, sorted_labels
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.table import Table
from bertjax.data.task_formats.label_lists import decide_lists, read_labels
from bertjax.data.task_formats.task_format import Encoding, TaskFormat, pair_columns, plain_pair
from bertjax.errors import DataError


def _encode_classes(rows: Rows, source: str, encoding: Encoding) -> Examples:
    labels = class_indices(rows.labels, encoding.vocabulary, source)
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, labels, encoding.max_length, encoding.progress)


def _label_columns(table: Table) -> tuple[str, ...]:
    """The columns of a row's labels, however many."""
    return table.labels or (table.label,)


def _read_several(cells: Mapping[str, Any], table: Table, texts: Any) -> tuple[str, ...]:
    if table.labels:
        return tuple(column for column in table.labels if read_flag(cells, column))
    return read_labels(cells, table)


def _several_vocabulary(names: Iterable[str], table: Table) -> tuple[str, ...]:
    known = set(names)
    if not known:
        raise DataError(f"multi_label needs a label or more, the training rows of {table.train} have none")
    return table.labels or table.flag_names or sorted_labels(known)


def _encode_several(rows: Rows, source: str, encoding: Encoding) -> Examples:
    indices = label_indices(rows.labels, encoding.vocabulary, source)
    labels = np.zeros((len(rows.labels), len(encoding.vocabulary)), np.float32)
    for row, of_row in enumerate(indices):
        labels[row, of_row] = 1
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, labels, encoding.max_length, encoding.progress)


def _encode_numbers(rows: Rows, source: str, encoding: Encoding, dtype: type = np.float32) -> Examples:
    labels: np.ndarray = np.array(rows.labels).astype(dtype)
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, labels, encoding.max_length, encoding.progress)


CLASSIFICATION = TaskFormat(
    task="classification",
    read_label=lambda cells, table, texts: read_label(cells, table.label, table.merges_labels),
    encode=_encode_classes,
    placeholder=lambda text, names: names[0],
    names=lambda label: (label,),
    vocabulary=lambda names, table: label_vocabulary(names),
    indexed=True,
    classes=True,
)


NEXT_SENTENCE = TaskFormat(
    task="next_sentence",
    text_columns=lambda table: pair_columns(table, "next_sentence"),
    read_label=lambda cells, table, texts: str(int(read_flag(cells, table.label))),
    encode=partial(_encode_numbers, dtype=np.int32),
    plain=plain_pair,
    sample=("a", "a"),
    placeholder=lambda text, names: "0",
    names=lambda label: (label,),
    classes=True,
)

MULTI_LABEL = TaskFormat(
    task="multi_label",
    decide=decide_lists,
    read_label=_read_several,
    comparable=sorted,
    encode=_encode_several,
    label_columns=_label_columns,
    placeholder=lambda text, names: (),
    names=lambda labels: labels,
    vocabulary=_several_vocabulary,
    indexed=True,
    usual={"label": (("labels",), ("tags",))},
)

REGRESSION = TaskFormat(
    task="regression",
    read_label=lambda cells, table, texts: tuple(read_number(cells, column) for column in _label_columns(table)),
    encode=_encode_numbers,
    label_columns=_label_columns,
    placeholder=lambda text, names: (0.0,) * len(names),
    vocabulary=lambda names, table: _label_columns(table),
    usual={"label": (("score",),)},
)
