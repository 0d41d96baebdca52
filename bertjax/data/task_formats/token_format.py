"""One label a word: entities, parts of speech. A word's label is that of its first piece; the others have none."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import in_windows
from bertjax.data.rows.cells import BadCell, label_text, read_list, shown
from bertjax.data.rows.label_vocabulary import label_indices, sorted_labels
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.literals import parse_literal
from bertjax.data.table import Table
from bertjax.data.task_formats.task_format import Encoding, TaskFormat
from bertjax.errors import DataError

_BIO = re.compile(r"O|[BI]-.+")


def is_bio(tags: Iterable[str]) -> bool:
    """Whether tags say where entities begin (B-), go on (I-) and are absent (O)."""
    tags = set(tags)
    return all(_BIO.fullmatch(tag) for tag in tags) and tags != {"O"}


def _read_words(cells: Mapping[str, Any], table: Table) -> tuple[tuple[str, ...], None]:
    words = _list(cells, table.text[0])
    wrong = next((word for word in words if not isinstance(word, str) or not word.strip()), None)
    if not words or wrong is not None:
        what = "no words" if not words else f"the word {shown(wrong)}"
        raise BadCell(f"has {what} in column {table.text[0]!r}, which must hold the words of a sentence")
    return tuple(words), None


def _read_tags(cells: Mapping[str, Any], table: Table, texts: tuple[Any, Any]) -> tuple[str, ...]:
    words = texts[0]
    tags = [label_text(tag, table.merges_labels) for tag in _list(cells, table.label, table.label_delimiter)]
    if len(tags) != len(words):
        raise BadCell(f"has {len(words)} words in {table.text[0]!r} but {len(tags)} labels in {table.label!r}")
    if None in tags or "" in tags:
        raise BadCell(f"has a label in {table.label!r} that is neither string nor integer")
    names = tuple(tag for tag in tags if tag is not None)
    _check_bio(words, names)
    return names


def _plain_words(entry: Any) -> tuple[tuple[str, ...], None]:
    """A sentence without a table: a text whose words are parted by white space, or a list of words."""
    words = entry.split() if isinstance(entry, str) else entry
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadCell(f"must be a string, a list of words or a row of columns, got {entry!r}")
    return tuple(words), None


def _list(cells: Mapping[str, Any], column: str, delimiter: str | None = None) -> list[Any]:
    """The items of a list; a text that is none is a list of what white space parts."""
    cell = cells[column]
    if isinstance(cell, str) and delimiter is None and not _is_list(cell):
        return cell.split()
    return read_list(cells, column, delimiter)


def _is_list(text: str) -> bool:
    """Whether a text is meant as a list; words may be parentheses, which white space parts from what they enclose."""
    text = text.strip()
    return text.startswith("[") or (not text[1:2].isspace() and parse_literal(text) is not None)


def _check_bio(words: Sequence[str], tags: tuple[str, ...]) -> None:
    if not is_bio(tags):
        return
    for i, (before, tag) in enumerate(zip(("O", *tags), tags, strict=False)):
        if tag[0] == "I" and before[1:] != tag[1:]:
            raise BadCell(
                f"labels {words[i]!r} (word {i + 1}) {tag}, but no {tag[2:]} begins before it: an entity starts with "
                f"B-{tag[2:]}",
                lines_on=i,
            )


def _vocabulary(names: Iterable[str], table: Table) -> tuple[str, ...]:
    known = set(names)
    if is_bio(known):
        # What begins may go on, whether or not the training rows have a case of it.
        known |= {f"{sign}-{tag[2:]}" for tag in known if tag != "O" for sign in "BI"} | {"O"}
    if len(known) < 2:
        raise DataError(
            f"token_classification needs two labels or more, the training rows of {table.train} have only "
            f"{', '.join(map(repr, known))}"
        )
    return sorted_labels(known)


def _encode(rows: Rows, source: str, encoding: Encoding) -> Examples:
    """Examples of at most the longest length; a longer sentence becomes several, and each word is labelled once.

    Their reference is [labelled tokens] the place of each one's word in its sentence.
    """
    tags = label_indices(rows.labels, encoding.vocabulary, source)
    windows = in_windows(encoding.tokenizer, rows.texts, None, encoding.max_length, overlap=0, split_into_words=True)
    labels: list[int] = []
    words: list[int] = []
    seen: set[tuple[int, int]] = set()
    for text, part in zip(windows.text_of.tolist(), windows.parts, strict=True):
        for word in part.word_ids:
            if word is None or (text, word) in seen:
                labels.append(UNLABELLED)
            else:
                seen.add((text, word))
                labels.append(tags[text][word])
                words.append(word)
    return Examples(
        *windows.tokens,
        np.array(labels, np.int32),
        truncated=0,
        labels_of="tokens",
        row_of=windows.text_of,
        reference=np.array(words, np.int32),
    )


TOKEN_CLASSIFICATION = TaskFormat(
    task="token_classification",
    text_columns=lambda table: table.text,
    read_texts=_read_words,
    read_label=_read_tags,
    encode=_encode,
    plain=_plain_words,
    placeholder=lambda words, names: (names[0],) * len(words),
    names=lambda tags: tags,
    vocabulary=_vocabulary,
    indexed=True,
    positions=True,
    usual={
        "text": (("tokens",), ("words",)),
        "label": (("ner_tags",), ("tags",), ("labels",)),
    },
)
