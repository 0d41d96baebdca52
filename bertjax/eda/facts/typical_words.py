"""The words, and pairs of words, that are typical of a class.

Log-odds ratio of a word in the class and in all others, with an informative Dirichlet prior that draws rare words
towards their share in the whole table, over its standard deviation (Monroe, Colaresi and Quinn 2008, Fightin' Words,
equations 15, 16, 20 and 22): above 1.96 a word is more frequent in the class than chance explains.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bertjax.eda.facts.words import Words

_PRIOR_WORDS, _PRIOR_SHARE = 500.0, 0.1  # words that the prior counts for: a share of all, up to a limit
_LISTED = 20
_MOST_CLASSES = 30
_LONGEST_TERM = 100  # characters that are kept of a word, which may be as long as a text


class TypicalWord(NamedTuple):
    """A word, or a pair of neighbouring words, that is more frequent in a class than in the others."""

    word: str
    score: float  # log-odds ratio over its standard deviation
    inside: int  # occurrences in the class
    outside: int  # in all others
    rows: int  # of the class that have it


class ClassWords(NamedTuple):
    """What is typical of a class, the highest scores first."""

    name: str
    rows: int
    words: tuple[TypicalWord, ...]
    pairs: tuple[TypicalWord, ...]


class _Terms(NamedTuple):
    """Words or pairs of words, by occurrence."""

    ids: np.ndarray  # [total] of each occurrence
    text_of: np.ndarray  # [total] ascending
    number: int  # distinct terms


def typical_words(words: Words, members: dict[str, np.ndarray], rows: np.ndarray) -> tuple[ClassWords, ...]:
    """The typical words of each class.

    Args:
      words: of all texts.
      members: class -> the texts in it; a text may be in several. Of many classes only the first 30 are described.
      rows: the texts that are compared, those of all classes.
    """
    if len(members) < 2:
        return ()
    keeps = np.zeros(len(words.counts), bool)
    keeps[rows] = True
    singles = _chosen(_Terms(words.ids, words.text_of, len(words.vocabulary)), keeps)
    pairs, first, second = _pairs(words, keeps)
    names = words.vocabulary
    described = []
    for name, texts in list(members.items())[:_MOST_CLASSES]:
        described.append(
            ClassWords(
                name,
                len(texts),
                _typical(singles, texts, len(keeps), lambda term: names[term]),
                _typical(pairs, texts, len(keeps), lambda term: f"{names[first[term]]} {names[second[term]]}"),
            )
        )
    return tuple(described)


def log_odds(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """[V] the log-odds ratio of each word over its standard deviation, of counts in a class and in all others; 0 of
    words that occur in neither, and of a word that is the only one.
    """
    total = inside + outside
    scores = np.zeros(len(total))
    known = np.flatnonzero(total)
    if len(known) < 2:
        return scores
    inside, outside, total = inside[known], outside[known], total[known]
    size = min(_PRIOR_WORDS, _PRIOR_SHARE * float(total.sum()))
    prior = size * total / int(total.sum())
    one, other = inside + prior, outside + prior
    odds = np.log(one / (inside.sum() + size - one)) - np.log(other / (outside.sum() + size - other))
    scores[known] = odds / np.sqrt(1 / one + 1 / other)
    return scores


def _typical(
    terms: _Terms, texts: np.ndarray, num_texts: int, spelled: Callable[[int], str]
) -> tuple[TypicalWord, ...]:
    is_inside = np.zeros(num_texts, bool)
    is_inside[texts] = True
    of_class = is_inside[terms.text_of]
    inside = np.bincount(terms.ids[of_class], minlength=terms.number)
    outside = np.bincount(terms.ids[~of_class], minlength=terms.number)
    if not inside.sum() or not outside.sum():
        return ()
    known = np.flatnonzero(inside)
    all_scores = log_odds(inside, outside)
    best = known[np.argsort(-all_scores[known], kind="stable")[:_LISTED]]
    scores = {term: float(all_scores[term]) for term in best.tolist()}
    numbers = _rows_with(terms, of_class, best)
    return tuple(
        TypicalWord(spelled(term)[:_LONGEST_TERM], scores[term], int(inside[term]), int(outside[term]), rows)
        for term, rows in zip(best.tolist(), numbers, strict=True)
        if scores[term] > 0
    )


def _rows_with(terms: _Terms, of_class: np.ndarray, wanted: np.ndarray) -> list[int]:
    """The number of texts of the class that have each of the wanted terms."""
    found = of_class & np.isin(terms.ids, wanted)
    keys = np.unique(terms.text_of[found].astype(np.int64) * terms.number + terms.ids[found])
    counts = np.bincount(keys % terms.number, minlength=terms.number)
    return [int(counts[term]) for term in wanted]


def _chosen(terms: _Terms, keeps: np.ndarray) -> _Terms:
    kept = keeps[terms.text_of]
    return _Terms(terms.ids[kept], terms.text_of[kept], terms.number)


def _pairs(words: Words, keeps: np.ndarray) -> tuple[_Terms, np.ndarray, np.ndarray]:
    """Neighbouring words of the texts that are kept, and the two words of each distinct pair."""
    text_of = words.text_of
    starts = np.flatnonzero((text_of[1:] == text_of[:-1]) & keeps[text_of[:-1]]) if len(text_of) else np.arange(0)
    size = max(1, len(words.vocabulary))
    keys, ids = np.unique(words.ids[starts].astype(np.int64) * size + words.ids[starts + 1], return_inverse=True)
    first, second = np.divmod(keys, size)
    return _Terms(ids.astype(np.int32), text_of[starts], len(keys)), first, second
