"""One label a text, or a pair of texts: a class, several classes, or numbers."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.cells import (
    BadCell,
    label_text,
    read_flag,
    read_label,
    read_list,
    read_number,
    read_texts,
    shown,
)
from bertjax.data.rows.label_vocabulary import class_indices, label_indices, label_vocabulary, sorted_labels
from bertjax.data.rows.labelled_rows import Row, Rows
from bertjax.data.table import Table
from bertjax.data.task_formats.task_format import Encoding, TaskFormat
from bertjax.errors import ConfigError, DataError

_SEPARATORS = ("|", ";", ",", "/", "\t")


def text_columns(table: Table) -> tuple[str, ...]:
    """The columns of both texts."""
    return (*table.text, *table.text_pair)


def pair_columns(table: Table, task: str) -> tuple[str, ...]:
    """The columns of both texts, where a task needs two.

    Raises:
      ConfigError: there is none for the second.
    """
    if not table.text_pair:
        raise ConfigError(f"{task} reads two texts a row; name the columns of the second with --pair-columns")
    return text_columns(table)


def _read_class(cells: Mapping[str, Any], table: Table) -> Row:
    return Row(*read_texts(cells, table), read_label(cells, table.label))


def _encode_classes(rows: Rows, source: str, encoding: Encoding) -> Examples:
    labels = class_indices(rows.labels, encoding.vocabulary, source)
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, labels, encoding.max_length)


def _label_columns(table: Table) -> tuple[str, ...]:
    """The columns of a row's labels, however many."""
    return table.labels or (table.label,)


def _read_several(cells: Mapping[str, Any], table: Table) -> Row:
    texts = read_texts(cells, table)
    if table.labels:
        return Row(*texts, tuple(column for column in table.labels if read_flag(cells, column)))
    try:
        items = read_list(cells, table.label, table.label_delimiter)
    except BadCell as error:
        cell = cells[table.label]
        separator = next((sign for sign in _SEPARATORS if isinstance(cell, str) and sign in cell), "|")
        raise BadCell(f"{error}; name what separates its labels: --label-delimiter {separator!r}") from None
    labels = [label_text(item) for item in items]
    if None in labels:
        item = items[labels.index(None)]
        raise BadCell(f"holds the label {shown(item)} in column {table.label!r}, which is neither string nor integer")
    return Row(*texts, tuple(label for label in dict.fromkeys(labels) if label))


def _several_vocabulary(names: Iterable[str], table: Table) -> tuple[str, ...]:
    found = set(names)
    if not found:
        raise DataError(f"multi_label needs a label or more, the training rows of {table.train} have none")
    return table.labels or sorted_labels(found)


def _encode_several(rows: Rows, source: str, encoding: Encoding) -> Examples:
    indices = label_indices(rows.labels, encoding.vocabulary, source)
    labels = np.zeros((len(rows.labels), len(encoding.vocabulary)), np.float32)
    for row, of_row in enumerate(indices):
        labels[row, of_row] = 1
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, labels, encoding.max_length)


def _read_numbers(cells: Mapping[str, Any], table: Table) -> Row:
    return Row(*read_texts(cells, table), tuple(read_number(cells, column) for column in _label_columns(table)))


def _encode_numbers(rows: Rows, source: str, encoding: Encoding) -> Examples:
    labels = np.array(rows.labels, np.float32)
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, labels, encoding.max_length)


CLASSIFICATION = TaskFormat(
    task="classification",
    columns=lambda table: (*text_columns(table), table.label),
    read_row=_read_class,
    encode=_encode_classes,
    names=lambda label: (label,),
    vocabulary=lambda names, table: label_vocabulary(names),
    indexed=True,
    classes=True,
)


def _read_follows(cells: Mapping[str, Any], table: Table) -> Row:
    return Row(*read_texts(cells, table), str(int(read_flag(cells, table.label))))


def _encode_follows(rows: Rows, source: str, encoding: Encoding) -> Examples:
    labels = np.array(rows.labels).astype(np.int32)
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, labels, encoding.max_length)


NEXT_SENTENCE = TaskFormat(
    task="next_sentence",
    columns=lambda table: (*pair_columns(table, "next_sentence"), table.label),
    read_row=_read_follows,
    encode=_encode_follows,
    names=lambda label: (label,),
    classes=True,
)

MULTI_LABEL = TaskFormat(
    task="multi_label",
    columns=lambda table: (*text_columns(table), *_label_columns(table)),
    read_row=_read_several,
    encode=_encode_several,
    names=lambda labels: labels,
    vocabulary=_several_vocabulary,
    indexed=True,
    usual={"label": (("labels",), ("tags",))},
)

REGRESSION = TaskFormat(
    task="regression",
    columns=lambda table: (*text_columns(table), *_label_columns(table)),
    read_row=_read_numbers,
    encode=_encode_numbers,
    vocabulary=lambda names, table: _label_columns(table),
    usual={"label": (("score",),)},
)
