"""One label per word: entities, parts of speech. The first piece of a word has its label, the others have none."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples, LostWords, WordLabels
from bertjax.data.encode.tokenize import in_windows
from bertjax.data.read.word_rows import gathered
from bertjax.data.rows.cells import BadCell, label_text, read_list, shown
from bertjax.data.rows.label_vocabulary import label_indices, sorted_labels
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.literals import parse_literal
from bertjax.data.table import Table
from bertjax.data.task_formats.tag_scheme import CONVERTED, as_bio, completed, fault_of, recognise, transitions
from bertjax.data.task_formats.task_format import Encoding, TaskFormat
from bertjax.errors import DataError

logger = logging.getLogger(__name__)

NO_WORD = -1  # of a token that is no word's first piece

_CJK = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # each character is a word to BERT's tokenizer too
_LETTERS = rf"[^\W{_CJK}]+"
_WORD = re.compile(rf"(?:[^\W\d_]\.){{2,}}|[{_CJK}]|{_LETTERS}(?:[^\w\s]{_LETTERS})*|\S")  # U.S., state-of-the-art, (


class Words(tuple[str, ...]):
    """The words of a text, which knows them.

    Attributes:
      text: the text.
      starts: where each word begins in it, in characters.
    """

    text: str
    starts: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> "Words":
        """The words of a text, punctuation apart from them, as the sentences of labelled tables have it.

        >>> Words.of("Mr. Smith-Jones (U.S.) left.")
        ('Mr', '.', 'Smith-Jones', '(', 'U.S.', ')', 'left', '.')
        """
        return cls._placed(text, _WORD.finditer(text))

    @classmethod
    def split(cls, text: str) -> "Words":
        """What white space parts in a text."""
        return cls._placed(text, re.finditer(r"\S+", text))

    @classmethod
    def joined(cls, parts: Sequence[str]) -> "Words":
        """Words that come without a text: theirs has a space between two of them."""
        words = cls(parts)
        words.text, words.starts = " ".join(parts), tuple(accumulate((len(part) + 1 for part in parts[:-1]), initial=0))
        return words

    @classmethod
    def _placed(cls, text: str, found: Iterable[re.Match[str]]) -> "Words":
        places = list(found)
        words = cls(place.group() for place in places)
        words.text, words.starts = text, tuple(place.start() for place in places)
        return words


def _read_words(cells: Mapping[str, Any], table: Table) -> tuple[tuple[str, ...], None]:
    cell, words = cells[table.text[0]], _list(cells, table.text[0])
    wrong = [word for word in words if not isinstance(word, str) or not word.strip()]
    if not words or wrong:
        what = f"the word {shown(wrong[0])}" if wrong else "no words"
        raise BadCell(f"has {what} in column {table.text[0]!r}, which must hold the words of a sentence")
    is_text = isinstance(cell, str) and cell.split() == words
    return Words.split(cell) if is_text else tuple(words), None


def _read_tags(cells: Mapping[str, Any], table: Table, texts: tuple[Any, Any]) -> tuple[str | None, ...]:
    """The label of each word; None where it is marked as having none."""
    words, tags = texts[0], _tags(cells, table)
    if len(tags) != len(words):
        raise BadCell(f"has {len(words)} words in {table.text[0]!r} but {len(tags)} labels in {table.label!r}")
    fault = fault_of(tags, table.tag_scheme or "none")
    if fault is not None:
        raise BadCell(
            f"labels {words[fault.word]!r} (word {fault.word + 1}) {tags[fault.word]}, {fault.reason}",
            lines_on=fault.word,
        )
    return as_bio(tags) if table.tag_scheme in CONVERTED else tags


def _tags(cells: Mapping[str, Any], table: Table) -> tuple[str | None, ...]:
    """The labels in a cell, as they are written; None for the mark of none."""
    tags = [label_text(tag, table.merges_labels) for tag in _list(cells, table.label, table.label_delimiter)]
    if None in tags or "" in tags:
        raise BadCell(f"has a label in {table.label!r} that is neither string nor integer")
    return tuple(None if tag == str(UNLABELLED) else tag for tag in tags)


def _decide_scheme(table: Table, rows: Iterable[Mapping[str, Any]], source: str) -> Table:
    """The table with its tag scheme, as the labels of all sentences show it; open where no word is in an entity."""
    if table.tag_scheme is not None:
        return table
    seen = set()
    for cells in rows:
        try:
            seen |= set(transitions(_tags(cells, table)))
        except BadCell:
            continue  # reported where the rows are read
    scheme, reason = recognise(seen)
    if scheme == "none":
        logger.log(
            logging.WARNING if reason else logging.INFO,
            "%s: the labels in %r are of no entity scheme%s; words are judged one by one",
            source, table.label, f" ({reason})" if reason else "",
        )  # fmt: skip
    elif scheme is not None:
        shown = f"{scheme}, read as bio" if scheme in CONVERTED else scheme
        logger.info("%s: the labels in %r mark entities by the scheme %s", source, table.label, shown)
    return replace(table, tag_scheme=scheme)


def _plain_words(entry: Any) -> tuple[tuple[str, ...], None]:
    """A sentence without a table: a text, or a list of its words."""
    if isinstance(entry, str):
        return Words.of(entry), None
    if isinstance(entry, Words):
        return entry, None
    if not isinstance(entry, list) or not all(isinstance(word, str) for word in entry):
        raise BadCell(f"must be a string, a list of words or a row of columns, got {entry!r}")
    return Words.joined(entry), None


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


def _vocabulary(names: Iterable[str], table: Table) -> tuple[str, ...]:
    scheme = table.tag_scheme or "none"
    known = set(names) if scheme == "none" else completed(names, scheme)
    if len(known) < 2:
        raise DataError(
            f"token_classification needs two labels or more, the training rows of {table.train} have only "
            f"{', '.join(map(repr, known))}"
        )
    return sorted_labels(known)


def _encode(rows: Rows, source: str, encoding: Encoding) -> Examples:
    """Examples of at most the longest length; a longer sentence becomes several, and each word is labelled once.

    Their reference is [total tokens] the place of each token's word in its sentence, `NO_WORD` but for first pieces.
    """
    tags = _indices(rows.labels, encoding.vocabulary, source)
    windows = in_windows(
        encoding.tokenizer, rows.texts, None, encoding.max_length, 0, encoding.progress, split_into_words=True
    )
    labels: list[int] = []
    words: list[int] = []
    seen: list[set[int]] = [set() for _ in tags]
    for text, part in zip(windows.text_of.tolist(), windows.parts, strict=True):
        for word in part.word_ids:
            if word is None or word in seen[text]:
                labels.append(UNLABELLED)
                words.append(NO_WORD)
            else:
                seen[text].add(word)
                labels.append(tags[text][word])
                words.append(word)
    unlabelled = [row for row, of_row in enumerate(tags) for tag in of_row if tag == UNLABELLED]
    return Examples(
        *windows.tokens,
        np.array(labels, np.int32),
        truncated=0,
        labels_of="tokens",
        row_of=windows.text_of,
        reference=np.array(words, np.int32),
        words=WordLabels(encoding.table.tag_scheme, _lost(tags, seen), np.array(unlabelled, np.int64)),
        special_tokens=encoding.tokenizer.num_special_tokens_to_add(),
    )


def _indices(labels: Sequence[Sequence[str | None]], vocabulary: Sequence[str], source: str) -> list[list[int]]:
    """The index of each word's label, -100 where it has none; raises DataError as `label_indices`."""
    indices = label_indices([[tag for tag in tags if tag is not None] for tags in labels], vocabulary, source)
    of_rows = map(iter, indices)
    return [
        [UNLABELLED if tag is None else next(of_row) for tag in tags]
        for tags, of_row in zip(labels, of_rows, strict=True)
    ]


def _lost(tags: Sequence[Sequence[int]], seen: Sequence[set[int]]) -> LostWords:
    """The labelled words that no token has, where `seen` are those of each row that some token has."""
    lost = [
        (row, sum(of_row[before] != UNLABELLED for before in range(word) if before in seen[row]), tag)
        for row, of_row in enumerate(tags)
        if len(seen[row]) < len(of_row)
        for word, tag in enumerate(of_row)
        if word not in seen[row] and tag != UNLABELLED
    ]
    rows, before, labels = zip(*lost, strict=True) if lost else ((), (), ())
    return LostWords(np.array(rows, np.int64), np.array(before, np.int64), np.array(labels, np.int32))


TOKEN_CLASSIFICATION = TaskFormat(
    task="token_classification",
    text_columns=lambda table: table.text,
    read_texts=_read_words,
    read_label=_read_tags,
    encode=_encode,
    plain=_plain_words,
    placeholder=lambda words, names: (names[0],) * len(words),
    names=lambda tags: [tag for tag in tags if tag is not None],
    vocabulary=_vocabulary,
    gathered=gathered,
    decide=_decide_scheme,
    indexed=True,
    positions=True,
    usual={
        "text": (("tokens",), ("words",), ("form",), ("Word",), ("word",), ("token",)),
        "label": (("ner_tags",), ("tags",), ("labels",), ("upos",), ("Tag",), ("tag",)),
    },
)
