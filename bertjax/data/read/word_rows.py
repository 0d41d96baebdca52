"""Tables with a word a row, such as the NER file of Kaggle (`Sentence #,Word,POS,Tag`): the rows of a sentence become
one row, whose cells are lists.

The sentence is named at its first word alone, or at each of its words.
"""

import logging
import re
from collections.abc import Hashable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import pandas as pd

from bertjax.errors import DataError

logger = logging.getLogger(__name__)

_SENTENCE = re.compile(r"sentence[ _]*(#|id|idx|no|nr|num|number)\.?", re.IGNORECASE)
_WORD = re.compile(r"words?|tokens?", re.IGNORECASE)


def gathered(frames: Iterable[pd.DataFrame], source: str) -> Iterator[pd.DataFrame]:
    """The rows of a table, in frames: those of each sentence as one, where the first frame shows that a row is a word.

    Args:
      frames: of the table, in its order.
      source: named in messages.

    Raises:
      DataError: a word without a sentence, or a sentence in two places.
    """
    column: str | None = None
    rest = pd.DataFrame()
    ended: set[Hashable] = set()
    for number, frame in enumerate(frames):
        if number == 0:
            column = _sentence_column(frame)
            if column is not None:
                logger.info("%s: each row is a word; the column %r tells its sentence", source, column)
        if column is None:
            yield frame
            continue
        words = pd.concat([rest, frame], ignore_index=True) if len(rest) else frame.reset_index(drop=True)
        starts = _starts(words[column])
        if starts[:1] == [0]:
            whole, last = starts[:-1], starts[-1]
            yield _sentences(words[:last], whole, column, ended, source)
            rest = words[last:]
        elif len(words):
            raise DataError(f"{source}: row 1 is a word of no sentence: its cell in column {column!r} is empty")
    if len(rest):
        yield _sentences(rest.reset_index(drop=True), [0], str(column), ended, source)


def _sentence_column(frame: pd.DataFrame) -> str | None:
    """The column with the sentence of each word; None where a row is no word."""
    columns = list(map(str, frame.columns))
    sentence = next((name for name in columns if _SENTENCE.fullmatch(name.strip())), None)
    word = next((name for name in columns if _WORD.fullmatch(name.strip())), None)
    if sentence is None or word is None:
        return None
    cells = frame[word].dropna()
    return sentence if all(isinstance(cell, str) and len(cell.split()) <= 1 for cell in cells) else None


def _starts(cells: pd.Series) -> list[int]:
    """The rows at which a sentence starts: those with another name, or with a name below an empty cell."""
    blank = cells.isna()
    names = cells.ffill()
    is_start = ~blank & ((names != names.shift()) | blank.shift(fill_value=False))
    return [int(row) for row in is_start.to_numpy().nonzero()[0]]


def _sentences(words: pd.DataFrame, starts: list[int], column: str, ended: set[Hashable], source: str) -> pd.DataFrame:
    """A row for each sentence; the names of the sentences are added to those that have ended."""
    names = words[column].iloc[starts].tolist()
    for name in names:
        if name in ended:
            raise DataError(
                f"{source}: the words of the sentence {name!r} stand in two places; sort the rows by {column!r}, and "
                f"number the sentences of several files on"
            )
        ended.add(name)
    bounds = [*starts, len(words)]
    cells: dict[Any, list[Any]] = {}
    for other in words.columns:
        values = words[other].astype(object).where(words[other].notna(), None).tolist()
        cells[other] = [values[first:last] for first, last in pairwise(bounds)]
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in (cells | {column: names}).items()})
