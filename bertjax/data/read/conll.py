"""CoNLL columns: a word and its tags a line, separated by white space, with a blank line after each sentence.

In shared tasks the word is first, the tag to learn is last, and other tags are between; `-DOCSTART-` lines separate
documents.
"""

import re
from collections.abc import Iterator
from typing import Any

from bertjax.data.read.bad_rows import PLACE, BadRow, OnBadRow, Place

_COMMENT = re.compile(r"#\s*\w+\s*=")  # as in CoNLL-U; a lone "#" is a word


def read_conll(text: str, source: str, on_bad_row: OnBadRow) -> dict[str, list[Any]]:
    """Sentences as columns of a table: `text` with the words, `label` with the last tags, `tag_2` and so on between.

    A sentence is broken if a line has another number of columns than the first line of the file.
    """
    places: list[Place] = []
    sentences: list[list[list[str]]] = []  # for each column, an entry a word
    width = None
    for line, words in _blocks(text):
        width = width or len(words[0])
        ragged = next((i for i, fields in enumerate(words) if len(fields) != width), None)
        if width < 2:
            on_bad_row(BadRow(source, line, "has one column; a word and its tag make two"))
        elif ragged is not None:
            count = len(words[ragged])
            reason = f"has {count} column{'' if count == 1 else 's'}, the lines before have {width}"
            on_bad_row(BadRow(source, line + ragged, reason))
        else:
            places.append(Place(source, line))
            sentences.append([list(column) for column in zip(*words, strict=True)])
    names = ["text", *(f"tag_{i}" for i in range(2, (width or 2))), "label"]
    return {name: [sentence[i] for sentence in sentences] for i, name in enumerate(names)} | {PLACE: places}


def _blocks(text: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Each sentence: the number of its first line, and the fields of its lines."""
    first = 0
    words: list[list[str]] = []
    for number, line in enumerate([*re.split(r"\r\n|\r|\n", text), ""], start=1):
        if line.strip() and not line.startswith("-DOCSTART-") and not (not words and _COMMENT.match(line)):
            first = first if words else number
            words.append(line.split("\t") if "\t" in line else line.split())
        elif words:
            yield first, words
            words = []
