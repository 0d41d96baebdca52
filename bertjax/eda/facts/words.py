"""The words of texts, as numbers: what near-duplicates are compared by, and what is typical of a class."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

import numpy as np

# Scripts that are written without spaces, whose letters count as words: Thai to Burmese, Khmer, Japanese, Chinese.
_UNSPACED = r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_MOST_WORDS = 2_000  # of a text; what comes later says little more of it


class Words(NamedTuple):
    """The words of texts, end to end.

    Attributes:
      vocabulary: the distinct words, in lower case, in the order of their first occurrence.
      ids: [total words] int32 places in it.
      offsets: [n + 1] int64; the words of text i are `offsets[i]:offsets[i + 1]`.
    """

    vocabulary: tuple[str, ...]
    ids: np.ndarray
    offsets: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """[n] words of each text."""
        return np.diff(self.offsets)

    @property
    def text_of(self) -> np.ndarray:
        """[total words] the text of each word."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int32), self.counts)


def words_of(texts: Sequence[str]) -> Words:
    """The words of each text, up to a limit: runs of letters and digits, and an apostrophe inside them; single letters
    of scripts without spaces.

    >>> words_of(["Don't panic, don't!", "猫だ"]).vocabulary
    ("don't", 'panic', '猫', 'だ')
    """
    index: dict[str, int] = {}
    counts = np.zeros(len(texts), np.int64)

    def ids() -> Iterator[int]:
        for i, text in enumerate(texts):
            found = [index.setdefault(word, len(index)) for word in _found(text)]
            counts[i] = len(found)
            yield from found

    numbers = np.fromiter(ids(), np.int32)
    return Words(tuple(index), numbers, np.concatenate([[0], np.cumsum(counts)]))


def _found(text: str) -> Iterable[str]:
    if len(text) <= _MOST_WORDS:  # it cannot have more
        return _pattern().findall(text.lower())
    return (match.group() for match in islice(_pattern().finditer(text.lower()), _MOST_WORDS))


@cache
def _pattern() -> re.Pattern[str]:
    """A word: Python's `\\w` lacks the marks that are part of letters in Devanagari, Arabic and others."""
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M")
    letter = rf"[^\W_{_UNSPACED}]"
    rest = rf"(?:{letter}|[{marks}])"
    return re.compile(rf"[{_UNSPACED}](?<![\W])[{marks}]*|{letter}{rest}*(?:['\u2019]{rest}+)*")
