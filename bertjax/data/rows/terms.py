"""`Terms`: the words and phrases of a gazetteer, found in texts whatever their case, and never inside longer words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bertjax.errors import DataError

# A word, or a sign. In scripts without spaces between words, every character stands for itself: Thai, Lao, Myanmar,
# Khmer, kana, Chinese; and Hangul, whose particles follow a word without a space.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+|[^\w\s]")


def tokens_of(text: str) -> tuple[str, ...]:
    """The words and signs of a text, as they are compared.

    >>> tokens_of("Straße, C++ \u96fb\u5f71")
    ('strasse', ',', 'c', '+', '+', '電', '影')
    """
    return tuple(_TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()))


class Terms:
    """Terms with a label each. The time of a look-up grows with the words of a text, not with the number of terms."""

    def __init__(self, labels: Mapping[str, str]):
        """Terms of a mapping, term -> label; one without a word or a sign is never found."""
        self._labels = {tokens: label for term, label in labels.items() if (tokens := tokens_of(term))}
        self._lengths = sorted({len(tokens) for tokens in self._labels})

    def vote(self, text: str) -> str | None:
        """The label of the most distinct terms in a text; None where there are none, or two labels have as many."""
        tokens = tokens_of(text)
        found = {
            tokens[start : start + length]
            for length in self._lengths
            for start in range(len(tokens) - length + 1)
            if tokens[start : start + length] in self._labels
        }
        counts = Counter(self._labels[term] for term in found).most_common(2)
        is_tie = len(counts) == 2 and counts[0][1] == counts[1][1]
        return None if is_tie or not counts else counts[0][0]


def read_terms(path: str | Path, label: str | None) -> dict[str, str]:
    """The terms of a text file, one a line; empty lines are left out.

    Args:
      path: of the file, in UTF-8.
      label: of all terms; None where a tab and the label follow each of them.

    Raises:
      DataError: it cannot be read, or a line has no label.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} cannot be read: {reason}; give a text file with a term in each line") from None
    terms: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        term, tab, of_term = line.partition("\t")
        if not line.strip():
            continue
        if label is None and not (tab and of_term.strip()):
            raise DataError(f"{path} line {number}: a tab and a label must follow the term {term!r}, or give label=")
        terms[term.strip()] = label if label is not None else of_term.strip()
    return terms
