"""Leaks: training rows whose text, but for case, width and spaces, stands in the rows that judge the model too."""

import unicodedata
from collections.abc import Iterator

from bertjax.data.rows.labelled_rows import Rows, spelled


def normalised(text: str) -> str:
    """A text without what Unicode's compatibility caseless matching passes over, nor runs of white space.

    >>> normalised(" \ufb01lm\\tNOIR ")
    'film noir'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def leaked_rows(train: Rows, *held_out: Rows | None) -> list[int]:
    """Indices of the training rows whose normalised text, or pair of texts, is in one of `held_out`."""
    judged = {key for rows in held_out if rows is not None for key in leak_keys(rows)}
    return [i for i, key in enumerate(leak_keys(train)) if key in judged]


def leak_keys(rows: Rows) -> Iterator[tuple[str, str | None]]:
    """What of each row decides whether it is a leak."""
    for i, text in enumerate(rows.texts):
        yield normalised(spelled(text)), None if rows.pairs is None else normalised(spelled(rows.pairs[i]))
