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

from bertjax.data.rows.cells import shown
from bertjax.data.task_formats.token_format import Words
from bertjax.errors import ConfigError

NO_WORD = -1  # of [CLS] and [SEP]
Span = tuple[int, int]  # first character, and the one behind the last


class PlacedWord(NamedTuple):
    """A word: `part` is 0 in the text and 1 in the second text of a pair, in which it begins at `start`."""

    word: str
    start: int
    part: int


class PlacedText(NamedTuple):
    """A text, or a pair of texts, as the network reads it, or the part of it that it reads at a time.

    Attributes:
      texts: the text, and perhaps the second one.
      words: of both, in order.
      token_ids, token_type_ids: [T] int32, special tokens included.
      word_of: [T] the word that each token is of, `NO_WORD` for a special token.
      offsets: [T, 2] the first character of each token in its text, and the one behind its last.
      cut_words: words that have no token, where the texts were cut.
    """

    texts: tuple[str, ...]
    words: tuple[PlacedWord, ...]
    token_ids: np.ndarray
    token_type_ids: np.ndarray
    word_of: np.ndarray
    offsets: np.ndarray
    cut_words: int = 0

    @property
    def seen_words(self) -> np.ndarray:
        """The words that have a token, ascending."""
        return np.unique(self.word_of[self.word_of != NO_WORD])

    def word_sums(self, of_tokens: np.ndarray) -> np.ndarray:
        """Numbers of tokens [T] added up over the tokens of each word, [W] float64; special tokens are in no word."""
        real = self.word_of != NO_WORD
        return np.bincount(self.word_of[real], of_tokens[real].astype(np.float64), len(self.words))

    def first_tokens(self, words: Sequence[int]) -> dict[int, int]:
        """The first token of each of some words that has one."""
        found = ((word, np.flatnonzero(self.word_of == word)) for word in words)
        return {word: int(tokens[0]) for word, tokens in found if len(tokens)}

    def words_between(self, start: int, end: int) -> list[int]:
        """The words of the first text that begin between two of its characters."""
        return [i for i, word in enumerate(self.words) if word.part == 0 and start <= word.start < end]

    def words_of(self, name: str) -> list[int]:
        """The first neighbouring words of the first text that read as the name.

        Raises:
          ConfigError: there are none.
        """
        for i, word in enumerate(self.words):
            words = self.words_between(word.start, word.start + len(name))
            if words[:1] == [i] and self.text_of(words) == name:
                return words
        raise ConfigError(f"{name!r} is no word, and no words beside each other, of the text {shown(self.texts[0])}")

    def text_of(self, words: Sequence[int]) -> str:
        """The first text from the first to the last of some words."""
        first, last = self.words[words[0]], self.words[words[-1]]
        return self.texts[0][first.start : last.start + len(last.word)]

    def span_of(self, start: int, end: int) -> tuple[int, int] | None:
        """The tokens of the last text that begin and end at two of its characters; None where there are none."""
        part = len(self.texts) - 1
        of_part = [i for i, word in enumerate(self.word_of) if word != NO_WORD and self.words[word].part == part]
        firsts = [i for i in of_part if self.offsets[i, 0] == start]
        lasts = [i for i in of_part if self.offsets[i, 1] == end]
        return (firsts[0], lasts[-1]) if firsts and lasts else None


def place(texts: Sequence[str], whole: Encoding, parts: Sequence[Encoding]) -> list[PlacedText]:
    """The words of a text, or of a pair of texts, and the tokens of each part of it that the network reads.

    Args:
      texts: one or two.
      whole: the tokenizer's encoding of them.
      parts: the same, cut to what the network reads at a time.
    """
    words: list[PlacedWord] = []
    firsts = []  # number of the first word of each text
    for number, text in enumerate(texts):
        firsts.append(len(words))
        words += [PlacedWord(text[start:end], start, number) for start, end in _word_spans(text, whole, number)]
    starts = [[word.start for word in words if word.part == number] for number in range(len(texts))]

    def word_at(number: int | None, start: int) -> int:
        return NO_WORD if number is None else firsts[number] + bisect_right(starts[number], start) - 1

    return [
        _placed(
            texts, words, part,
            [word_at(number, start) for number, (start, _) in zip(part.sequence_ids, part.offsets, strict=True)],
            part.offsets,
            is_cut=len(part.ids) < len(whole.ids),
        )
        for part in parts
    ]  # fmt: skip


def place_words(words: Words, parts: Sequence[Encoding]) -> list[PlacedText]:
    """Words that are labelled one by one, and the tokens of each part of their text that the network reads.

    Args:
      words: of the text.
      parts: the tokenizer's encodings of the words, which follow one another.
    """
    placed = [PlacedWord(word, start, 0) for word, start in zip(words, words.starts, strict=True)]
    found = []
    for part in parts:
        word_of = [NO_WORD if word is None else word for word in part.word_ids]
        shifts = [0 if word == NO_WORD else words.starts[word] for word in word_of]
        offsets = [(start + by, end + by) for (start, end), by in zip(part.offsets, shifts, strict=True)]
        found.append(_placed([words.text], placed, part, word_of, offsets, is_cut=len(parts) > 1))
    return found


def _placed(
    texts: Sequence[str],
    words: Sequence[PlacedWord],
    part: Encoding,
    word_of: Sequence[int],
    offsets: Sequence[Span],
    is_cut: bool,
) -> PlacedText:
    return PlacedText(
        tuple(texts),
        tuple(words),
        np.array(part.ids, np.int32),
        np.array(part.type_ids, np.int32),
        np.array(word_of, np.int64),
        np.array(offsets, np.int64).reshape(-1, 2),
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
