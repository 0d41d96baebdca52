"""Leaks: training rows whose text, except for case, width and spaces, is in the validation or test rows too."""

import unicodedata

import numpy as np

from bertjax.data.rows.labelled_rows import Rows, as_string
from bertjax.data.rows.row_hashes import hash64


def normalised(text: str) -> str:
    """A text after Unicode's compatibility caseless folding, with single spaces.

    >>> normalised(" \ufb01lm\\tNOIR ")
    'film noir'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def leak_hashes(rows: Rows) -> np.ndarray:
    """A hash of each row's normalised text, or pair of texts: [n] uint64."""
    pairs = rows.text_pairs()
    places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}  # repeated texts are normalised once
    hashes = hash64(
        (normalised(as_string(text)), None if pair is None else normalised(as_string(pair))) for text, pair in places
    )
    return hashes[np.fromiter((places[pair] for pair in pairs), np.int64, len(pairs))]
