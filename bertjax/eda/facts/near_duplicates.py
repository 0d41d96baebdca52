"""Texts that are nearly the same: MinHash signatures find the candidates, and their words decide.

Two texts are as similar as their sets of words are (Jaccard: words in both over words in either). Rows of a signature
matrix agree with that probability (Broder 1997), and bands of several rows make pairs above a threshold collide almost
surely, others hardly ever (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4). Every candidate is
then compared word by word, so a pair that is reported is one.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from bertjax.eda.facts.words import Words
from bertjax.stage_progress import UNSHOWN, StageProgress

_RECALL = 0.995  # of pairs exactly at the threshold that become candidates
_MOST_HASHES = 360
_WIDEST = 16  # rows of a band; of a wider one nothing more collides by chance
_THREADS = 2
_NEIGHBOURS = 16  # earlier rows of a crowded bucket that a row meets; in another band it meets others
_MOST_CANDIDATES = 20_000_000  # of all bands; memory
_ROUNDING = 1e-9
_PAIRS_AT_ONCE = 200_000


class NearDuplicates(NamedTuple):
    """Pairs of texts.

    Attributes:
      pairs: [k, 2] indices, the smaller first, ascending.
      similarity: [k] from the threshold to 1.
      is_complete: whether all candidates were compared; there are too many where most rows are alike.
    """

    pairs: np.ndarray
    similarity: np.ndarray
    is_complete: bool = True

    def rows(self) -> np.ndarray:
        """The rows that have an earlier one nearly alike, ascending."""
        return np.unique(self.pairs[:, 1])


def find_near_duplicates(
    words: Words,
    rows: np.ndarray,
    threshold: float,
    seed: int,
    parts: Sequence[Words] = (),
    progress: StageProgress = UNSHOWN,
) -> NearDuplicates:
    """Finds the pairs of texts with a similarity of `threshold` or more.

    Args:
      words: of texts.
      rows: [m] the texts to compare, ascending: such as one of each.
      threshold: in (0, 1].
      seed: of the hash functions; at the threshold itself one pair in 200 may be missed, above it ever fewer.
      parts: the words of parts of each text, such as a question and its context: texts are as similar as the part that
        they have least in common. Questions about one context are no near-duplicates.
      progress: shows how many bands are compared.
    """
    sets = _word_sets(words, rows)
    filled = np.flatnonzero(np.diff(sets.offsets) > 0)  # texts without a word are like no other
    sets = _taken(sets, filled)
    if len(filled) < 2:
        return NearDuplicates(np.zeros((0, 2), np.int64), np.zeros(0))
    num_bands, band_rows = bands(threshold)
    signatures = _signatures(sets, len(words.vocabulary), num_bands * band_rows, seed)
    candidates, is_complete = _candidates(signatures, band_rows, progress)
    first, second = np.divmod(candidates, len(filled))
    similarity = _jaccard(sets, len(words.vocabulary), first, second)
    pairs = rows[filled[np.stack([first, second], axis=1)]]
    for part in parts:
        likely = np.flatnonzero(similarity >= threshold - _ROUNDING)
        pairs, similarity = pairs[likely], np.minimum(similarity[likely], _part_similarity(part, pairs[likely]))
    found = np.flatnonzero(similarity >= threshold - _ROUNDING)
    found = found[np.lexsort((pairs[found, 1], pairs[found, 0]))]
    return NearDuplicates(pairs[found], similarity[found], is_complete)


def _part_similarity(words: Words, pairs: np.ndarray) -> np.ndarray:
    """[k] the similarity of pairs of texts of which some may have no word: two of these are alike."""
    sets = _word_sets(words, np.arange(len(words.counts)))
    is_empty = np.diff(sets.offsets)[pairs] == 0
    similarity = is_empty.all(axis=1).astype(np.float64)
    filled = np.flatnonzero(~is_empty.any(axis=1))
    similarity[filled] = _jaccard(sets, len(words.vocabulary), *pairs[filled].T)
    return similarity


def bands(threshold: float) -> tuple[int, int]:
    """How many bands, of how many rows each: the widest that find enough pairs at the threshold.

    >>> bands(0.6), bands(0.9)
    ((66, 5), (23, 15))
    """
    for band_rows in range(_WIDEST, 1, -1):
        agrees = threshold**band_rows  # the probability that a band does
        num_bands = math.ceil(math.log(1 - _RECALL) / math.log1p(-agrees)) if agrees < 1 else 1
        if num_bands * band_rows <= _MOST_HASHES:
            return num_bands, band_rows
    return _MOST_HASHES, 1


class _Sets(NamedTuple):
    """The distinct words of texts, end to end, ascending in each."""

    ids: np.ndarray
    offsets: np.ndarray


def _word_sets(words: Words, rows: np.ndarray) -> _Sets:
    size = max(1, len(words.vocabulary))
    keys = np.unique(words.text_of.astype(np.int64) * size + words.ids)
    text_of, ids = np.divmod(keys, size)
    offsets = np.searchsorted(text_of, np.arange(len(words.offsets)))
    return _taken(_Sets(ids.astype(np.int32), offsets), rows)


def _taken(sets: _Sets, rows: np.ndarray) -> _Sets:
    lengths = sets.offsets[rows + 1] - sets.offsets[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return _Sets(sets.ids[np.arange(offsets[-1]) + np.repeat(sets.offsets[rows] - offsets[:-1], lengths)], offsets)


def _signatures(sets: _Sets, vocabulary: int, num_hashes: int, seed: int) -> np.ndarray:
    """[num_hashes, m] uint32: the smallest random number of each text's words, another one a row."""
    signatures = np.empty((num_hashes, len(sets.offsets) - 1), np.uint32)
    seeds = np.random.SeedSequence(seed).spawn(num_hashes)

    def fill(row: int) -> None:
        random = np.random.Generator(np.random.SFC64(seeds[row]))
        numbers = random.integers(0, 2**32, vocabulary, dtype=np.uint32)
        np.minimum.reduceat(numbers[sets.ids], sets.offsets[:-1], out=signatures[row])

    with ThreadPoolExecutor(_THREADS) as pool:  # numpy lets other threads run
        list(pool.map(fill, range(num_hashes)))
    return signatures


def _candidates(signatures: np.ndarray, band_rows: int, progress: StageProgress) -> tuple[np.ndarray, bool]:
    """Distinct pairs i < j that agree in all rows of a band, as i * m + j, ascending; and whether they are all."""
    starts = range(0, len(signatures), band_rows)
    found: list[np.ndarray] = []
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        progress.stage("near-duplicates", "bands", len(starts)) as advance,
    ):
        for pairs in pool.map(lambda start: _colliding(signatures[start : start + band_rows]), starts):
            found.append(pairs)
            advance(1)
            if sum(map(len, found)) > _MOST_CANDIDATES:
                found = [np.unique(np.concatenate(found))]
                if len(found[0]) > _MOST_CANDIDATES // 2:
                    return found[0], False
    return np.unique(np.concatenate(found)), True


def _colliding(band: np.ndarray) -> np.ndarray:
    """Pairs of texts that agree in all rows: each text with the nearest before it."""
    num_texts = band.shape[1]
    keys = np.zeros(num_texts, np.uint64)
    for row in band:  # as in FNV-1a, with a shift, since only the high bits of a product depend on all bits
        keys = (keys ^ row) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    found = []
    for distance in range(1, _NEIGHBOURS + 1):
        equal = np.flatnonzero(ordered[distance:] == ordered[:-distance])
        if not len(equal):
            break
        found.append(order[equal] * num_texts + order[equal + distance])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _jaccard(sets: _Sets, vocabulary: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[k] the similarity of pairs of texts."""
    sizes = np.diff(sets.offsets)
    text_of = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    keys = text_of * vocabulary + sets.ids  # ascending
    similarity = np.zeros(len(first))
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        one, other = _taken(sets, first[part]), second[part]
        lengths = np.diff(one.offsets)
        wanted = np.repeat(other, lengths) * vocabulary + one.ids
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        common = np.add.reduceat((keys[places] == wanted).astype(np.int64), one.offsets[:-1])
        similarity[part] = common / (lengths + sizes[other] - common)
    return similarity
