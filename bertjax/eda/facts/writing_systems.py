"""The scripts that texts are written in, by the names of their letters in Unicode."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

_TEXTS_AT_ONCE = 2_000
_MOST_CHARACTERS = 10_000  # of a text
# Scripts whose letters' names do not begin with their own.
_BY_FIRST_WORD = {"CJK": "Han", "FULLWIDTH": "Latin", "HALFWIDTH": "Katakana", "MICRO": "Greek", "OHM": "Greek"}
_LATIN = ("FEMININE", "MASCULINE", "KELVIN", "ANGSTROM", "MODIFIER", "MATHEMATICAL", "SCRIPT", "DOUBLE-STRUCK")
EMOJI = "emoji and symbols"


class Script(NamedTuple):
    """A script, or emoji and symbols."""

    name: str
    characters: int
    share: float  # of all letters and symbols
    rows: int  # that have any of it


def scripts_of(texts: Sequence[str]) -> tuple[Script, ...]:
    """The scripts of some texts, the most frequent first; of a long text its first 10,000 characters."""
    names: dict[str, int] = {}
    characters = np.zeros(0, np.int64)
    rows = np.zeros(0, np.int64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = [text[:_MOST_CHARACTERS] for text in texts[start : start + _TEXTS_AT_ONCE]]
        codes = np.frombuffer("".join(part).encode("utf-32-le", "surrogatepass"), np.uint32)
        row_of = np.repeat(np.arange(len(part)), [len(text) for text in part])
        distinct, places = np.unique(codes, return_inverse=True)
        scripts = np.array([_number(names, chr(code)) for code in distinct.tolist()], np.int64)[places]
        known = scripts >= 0
        characters = _sum(characters, np.bincount(scripts[known], minlength=len(names)))
        found = np.unique(row_of[known] * max(1, len(names)) + scripts[known]) % max(1, len(names))
        rows = _sum(rows, np.bincount(found, minlength=len(names)))
    total = max(1, int(characters.sum()))
    found_scripts = (
        Script(name, int(characters[i]), int(characters[i]) / total, int(rows[i])) for name, i in names.items()
    )
    return tuple(sorted(found_scripts, key=lambda script: -script.characters))


def _sum(total: np.ndarray, part: np.ndarray) -> np.ndarray:
    return np.pad(total, (0, len(part) - len(total))) + part


def _number(names: dict[str, int], character: str) -> int:
    """The number of a character's script; -1 where it has none, as digits and spaces."""
    name = script_of(character)
    return -1 if name is None else names.setdefault(name, len(names))


@lru_cache(maxsize=2**16)
def script_of(character: str) -> str | None:
    """The script of a letter, `EMOJI` for a symbol of text, None for what all scripts share.

    >>> [script_of(character) for character in "aж中あ1 é😀"]
    ['Latin', 'Cyrillic', 'Han', 'Hiragana', None, None, 'Latin', 'emoji and symbols']
    """
    kind = unicodedata.category(character)
    if kind == "So":
        return EMOJI
    if kind[0] != "L":
        return None
    first = unicodedata.name(character, "unnamed").split()[0].split("-")[0]
    if first in _LATIN:
        return "Latin"
    return _BY_FIRST_WORD.get(first, first.capitalize())
