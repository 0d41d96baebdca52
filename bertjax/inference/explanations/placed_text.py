"""`PlacedText`: the tokens of a text, and which of its words each belongs to.

A word is one as readers see it (`Words.of`): the tokenizer makes five parts of `state-of-the-art`, which is one word.
Where a part of the tokenizer is more than such a word, as a sign of several code points is, it is the word.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding

from bertjax.data.task_formats.token_format import Words

NO_WORD = -1  # of [CLS] and [SEP]
Span = tuple[int, int]  # first character, and the one behind the last


class PlacedWord(NamedTuple):
    """A word: `part` is 0 in the text and 1 in the second text of a pair, in which it begins at `start`."""

    word: str
    start: int
    part: int


class PlacedText(NamedTuple):
    """A text, or a pair of texts, as the network reads it.

    Attributes:
      texts: the text, and perhaps the second one.
      words: of both, in order.
      token_ids, token_type_ids: [T] int32, special tokens included.
      word_of: [T] the word that each token is of, `NO_WORD` for a special token.
      cut_words: words that have no token, where the texts were cut; they are at their ends.
    """

    texts: tuple[str, ...]
    words: tuple[PlacedWord, ...]
    token_ids: np.ndarray
    token_type_ids: np.ndarray
    word_of: np.ndarray
    cut_words: int = 0

    @property
    def seen_words(self) -> np.ndarray:
        """The words that have a token, ascending."""
        return np.unique(self.word_of[self.word_of != NO_WORD])

    def word_sums(self, of_tokens: np.ndarray) -> np.ndarray:
        """Numbers of tokens [T] added up over the tokens of each word, [W] float64; special tokens are in no word."""
        real = self.word_of != NO_WORD
        return np.bincount(self.word_of[real], of_tokens[real].astype(np.float64), len(self.words))


def place(texts: Sequence[str], whole: Encoding, cut: Encoding) -> PlacedText:
    """The words of a text, or of a pair of texts, and their tokens.

    Args:
      texts: one or two.
      whole: the tokenizer's encoding of them.
      cut: the same, cut to what the network reads; these are the tokens.
    """
    words: list[PlacedWord] = []
    firsts = []  # number of the first word of each text
    for part, text in enumerate(texts):
        firsts.append(len(words))
        words += [PlacedWord(text[start:end], start, part) for start, end in _word_spans(text, whole, part)]
    starts = [[word.start for word in words if word.part == part] for part in range(len(texts))]
    word_of = [
        NO_WORD if part is None else firsts[part] + bisect_right(starts[part], start) - 1
        for part, (start, _) in zip(cut.sequence_ids, cut.offsets, strict=True)
    ]
    is_cut = len(cut.ids) < len(whole.ids)
    return PlacedText(
        tuple(texts),
        tuple(words),
        np.array(cut.ids, np.int32),
        np.array(cut.type_ids, np.int32),
        np.array(word_of, np.int64),
        len(words) - len({*word_of} - {NO_WORD}) if is_cut else 0,
    )


def _word_spans(text: str, encoding: Encoding, part: int) -> list[Span]:
    """The words of a text, of which each part of the tokenizer lies in one."""
    words = Words.of(text)
    seen = [(start, start + len(word)) for start, word in zip(words.starts, words, strict=True)]
    tokens = zip(encoding.sequence_ids, encoding.word_ids, encoding.offsets, strict=True)
    of_part = ((word, offsets) for sequence, word, offsets in tokens if sequence == part)
    for _, group in groupby(of_part, key=lambda token: token[0]):
        offsets = [offsets for _, offsets in group]
        seen.append((offsets[0][0], offsets[-1][1]))
    spans: list[Span] = []
    for start, end in sorted(seen):
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        elif end > start:
            spans.append((start, end))
    return spans
