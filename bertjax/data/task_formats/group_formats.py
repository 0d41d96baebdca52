"""Several texts per example: a question with candidate answers, or two texts with their similarity.

The texts of an example stand in consecutive slots of one row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.cells import (
    BadCell,
    read_list,
    read_number,
    read_text,
    shown,
)
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.table import Table
from bertjax.data.task_formats.right_answers import decide_answers, right_candidate
from bertjax.data.task_formats.task_format import Encoding, TaskFormat, pair_columns, plain_pair
from bertjax.errors import ConfigError, DataError


def _choice_columns(table: Table) -> tuple[str, ...]:
    if not table.candidates:
        raise ConfigError(
            "multiple_choice needs the candidates of each question: name their columns, or the one that lists them, "
            "with --candidates"
        )
    return (*table.text, *table.candidates)


def _read_choice(cells: Mapping[str, Any], table: Table) -> tuple[str, tuple[str, ...]]:
    candidates = _candidates(cells, table.candidates)
    return read_text(cells, table.text), candidates


def _plain_choice(entry: Any) -> tuple[str, tuple[str, ...]]:
    """A question and its candidates without a table."""
    if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], str):
        raise BadCell(f"must be a pair of a string and a list of candidates, or a row of columns, got {entry!r}")
    return entry[0], _candidates({"candidates": entry[1]}, ("candidates",))


def _candidates(cells: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    if len(columns) > 1:
        return tuple(read_text(cells, [column]) for column in columns)
    items = read_list(cells, columns[0])
    wrong = next((item for item in items if not isinstance(item, str) or not item.strip()), None)
    if wrong is not None or len(items) < 2:
        what = f"the candidate {shown(wrong)}" if wrong is not None else f"{len(items)} of the two candidates or more"
        raise BadCell(f"has {what} in column {columns[0]!r}, which must list texts")
    return tuple(items)


def _decide(table: Table, rows: Iterable[Mapping[str, Any]], source: str) -> Table:
    return decide_answers(table, _answers(table, rows), source)


def _answers(table: Table, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The label and the candidates of each row; no candidates where they cannot be used."""
    for cells in rows:
        try:
            yield cells[table.label], _candidates(cells, table.candidates)
        except BadCell:
            yield None, ()


def _encode_choices(rows: Rows, source: str, encoding: Encoding) -> Examples:
    assert rows.pairs is not None
    counts = [len(candidates) for candidates in rows.pairs]
    other = next((i for i, count in enumerate(counts) if count != counts[0]), None)
    if other is not None:
        raise DataError(
            f"{source}: the question {shown(rows.texts[other])} has {counts[other]} candidates, those before have "
            f"{counts[0]}; all questions of a table need as many"
        )
    questions = [text for text, count in zip(rows.texts, counts, strict=True) for _ in range(count)]
    candidates = [candidate for of_row in rows.pairs for candidate in of_row]
    return _grouped(
        tokenize(
            encoding.tokenizer,
            questions,
            candidates,
            np.array(rows.labels, np.int32),
            encoding.max_length,
            encoding.progress,
        ),
        counts[0],
    )


def _read_likeness(cells: Mapping[str, Any], table: Table, texts: tuple[Any, Any]) -> float:
    likeness = read_number(cells, table.label) / table.label_scale
    if not -1 <= likeness <= 1:
        raise BadCell(
            f"holds {shown(cells[table.label])} in column {table.label!r}, but a likeness is between -1 and 1: name "
            f"the largest score with --label-scale, such as 5"
        )
    return likeness


def _encode_pairs(rows: Rows, source: str, encoding: Encoding) -> Examples:
    assert rows.pairs is not None
    texts = [text for pair in zip(rows.texts, rows.pairs, strict=True) for text in pair]
    return _grouped(
        tokenize(
            encoding.tokenizer, texts, None, np.array(rows.labels, np.float32), encoding.max_length, encoding.progress
        ),
        2,
    )


def _grouped(examples: Examples, texts: int) -> Examples:
    """Examples of several texts each, out of texts that were encoded one by one."""
    return examples._replace(offsets=examples.offsets[::texts], text_lengths=examples.lengths.reshape(-1, texts))


MULTIPLE_CHOICE = TaskFormat(
    task="multiple_choice",
    text_columns=_choice_columns,
    read_texts=_read_choice,
    decide=_decide,
    read_label=lambda cells, table, texts: right_candidate(cells, table.label, texts[1], table.answer_as),
    encode=_encode_choices,
    plain=_plain_choice,
    sample=("a", ["a", "b"]),
    placeholder=lambda question, names: 0,
    grouped=True,
    usual={
        "text": (("question",),),
        "candidates": (("choices",), ("options",), ("candidates",), ("A", "B", "C", "D")),
        "label": (("answer",),),
    },
)

SENTENCE_EMBEDDING = TaskFormat(
    task="sentence_embedding",
    text_columns=lambda table: pair_columns(table, "sentence_embedding"),
    read_label=_read_likeness,
    encode=_encode_pairs,
    plain=plain_pair,
    sample=("a", "a"),
    placeholder=lambda text, names: 0.0,
    grouped=True,
    usual={
        "text": (("sentence1",), ("text1",)),
        "text_pair": (("sentence2",), ("text2",)),
        "label": (("score",), ("similarity_score",)),
    },
)
