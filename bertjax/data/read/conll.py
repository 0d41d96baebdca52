"""CoNLL columns: a word and its tags a line, separated by white space, with a blank line after each sentence.

In shared tasks the word is first, the tag to learn is last, and other tags are between; `-DOCSTART-` lines separate
documents. What stands before the word in other files (its number in the sentence, the name of a document) is found and
said. CoNLL-U (https://universaldependencies.org/format.html) has names for its columns.
"""

import re
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from bertjax.data.read.bad_rows import PLACE, BadRow, OnBadRow, Place
from bertjax.data.read.notes import Note, OnNote

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_COMMENT = re.compile(r"#\s*(\w+(\.\w+)?\s*=|new(doc|par)\b)")  # as in CoNLL-U; a lone "#" is a word
_COLUMNS = re.compile(r"#\s*global\.columns\s*=\s*(.+)")  # the header of CoNLL-U Plus
_NO_WORD = re.compile(r"\d+(-\d+|\.\d+)")  # the id of CoNLL-U's words of several tokens, and of its empty nodes
_TAG = re.compile(r"O|[BIESLU]-\S+")
_LEAST_LABELLED = 2  # columns of a word and its tag


class _Line(NamedTuple):
    number: int  # from 1
    fields: list[str]


_Sentence = list[_Line]
_Say = Callable[[str], None]


def read_conll(text: str, source: str, on_bad_row: OnBadRow, on_note: OnNote) -> dict[str, list[Any]]:
    """Sentences as columns of a table: `text` with the words, `label` with the last tags, `tag_2` and so on between,
    and `column_1` and so on for columns before the words. CoNLL-U has its own names, in lower case.

    A sentence is broken if a line has another number of columns than the first line of the file.
    """

    def say(what: str) -> None:
        on_note(Note(source, what))

    sentences, width = _without_comments(_sentences(text), say)
    header = _COLUMNS.match(text.removeprefix("\ufeff"))
    names = _names_of_units(sentences, width, header[1].lower().split() if header else CONLLU)
    if names:
        sentences = [[line for line in of if not _NO_WORD.fullmatch(line.fields[0])] for of in sentences]
        say(f"it is CoNLL-U, with the columns {', '.join(names)} (--text-columns, --label-column)")
    whole = []
    for sentence in sentences:
        ragged = next((line for line in sentence if len(line.fields) != width), None)
        if width < _LEAST_LABELLED:
            on_bad_row(BadRow(source, sentence[0].number, "has one column; a word and its tag make two"))
        elif ragged is not None:
            count = len(ragged.fields)
            reason = f"has {count} column{'' if count == 1 else 's'}, the lines before have {width}"
            on_bad_row(BadRow(source, ragged.number, reason))
        else:
            whole.append(sentence)
    names = names or _names_by_place(whole, width, say)
    columns = {name: [[line.fields[i] for line in of] for of in whole] for i, name in enumerate(names)}
    return columns | {PLACE: [Place(source, sentence[0].number) for sentence in whole]}


def _sentences(text: str) -> list[_Sentence]:
    """The lines of each sentence, with the comments before it."""
    sentences: list[_Sentence] = []
    words: _Sentence = []
    for number, line in enumerate([*re.split(r"\r\n|\r|\n", text), ""], start=1):
        if line.strip() and not line.startswith("-DOCSTART-") and not (not words and _COMMENT.match(line)):
            words.append(_Line(number, line.split("\t") if "\t" in line else line.split()))
        elif words:
            sentences.append(words)
            words = []
    return sentences


def _without_comments(sentences: list[_Sentence], say: _Say) -> tuple[list[_Sentence], int]:
    """The sentences without the `#` lines before them that are no words, as they have other columns than the words have
    (in GermEval and CoNLL-2012); and the number of columns."""
    lines = [line for sentence in sentences for line in sentence]
    first = next((line for line in lines if not line.fields[0].startswith("#")), lines[0] if lines else None)
    width = len(first.fields) if first else 0

    heads = [list(takewhile(_may_be_comment, sentence)) for sentence in sentences]
    comments = [line for head in heads for line in head]
    if all(len(line.fields) == width for line in comments):
        return sentences, width
    say(f"{len(comments)} lines that begin with # are comments, no words")
    bodies = [sentence[len(head) :] for sentence, head in zip(sentences, heads, strict=True)]
    return [body for body in bodies if body], width


def _may_be_comment(line: _Line) -> bool:
    return line.fields[0] == "#" or line.fields[:2] in (["#begin", "document"], ["#end", "document"])


def _names_of_units(sentences: Sequence[_Sentence], width: int, names: Sequence[str]) -> list[str]:
    """The names of CoNLL-U's columns, where the ids of all words show that it is such a file; else none."""
    lines = [line for sentence in sentences for line in sentence]
    if width != len(names) or tuple(names[:2]) != CONLLU[:2] or any(len(line.fields) != width for line in lines):
        return []
    ids = [[line.fields[0] for line in of if not _NO_WORD.fullmatch(line.fields[0])] for of in sentences]
    return list(names) if all(_counts(of, first=1) for of in ids) else []


def _names_by_place(sentences: Sequence[_Sentence], width: int, say: _Say) -> list[str]:
    """Names of columns: those before the words are those that count or repeat in every sentence."""
    if _is_tag_first(sentences, width):
        say("the tags are in column 1, the words in column 2")
        return ["label", "text"]
    before = 0
    while before < width - 1:
        what = _no_words([[line.fields[before] for line in of] for of in sentences], width - before)
        if not what:
            break
        before += 1
        say(f"column {before} {what}, and is no text")
    last = [] if before == width - 1 else ["label"]
    if before:
        labels = f"the labels in column {width}" if last else "and no column is left for labels"
        say(f"the words are in column {before + 1}, {labels} (other ones: --text-columns, --label-column)")
    numbers = range(1, width + 1)
    return [
        *(f"column_{i}" for i in numbers[:before]),
        "text",
        *(f"tag_{i}" for i in numbers[before + 1 : width - len(last)]),
        *last,
    ]


def _is_tag_first(sentences: Sequence[_Sentence], width: int) -> bool:
    """Whether the first of two columns holds tags such as B-PER, and the second other words (as in MIT's corpora)."""
    if width != _LEAST_LABELLED or not sentences:
        return False
    first, second = zip(*(line.fields for of in sentences for line in of), strict=True)
    return all(map(_TAG.fullmatch, first)) and set(first) != {"O"} and not all(map(_TAG.fullmatch, second))


def _no_words(column: Sequence[Sequence[str]], columns: int) -> str:
    """What the first of some columns is where it is no words: each sentence's values count, or are all one."""
    several = [values for values in column if len(values) > 1]
    # One sentence may be "1 2 3", and two may be "no no"; where no label is left, more must speak for it.
    if len(several) > (columns == 2) and any(all(_counts(values, first) for values in column) for first in (0, 1)):
        return "counts the words of each sentence"
    if len(several) > 1 and columns > 2 and all(len(set(values)) == 1 for values in several):
        return "has one value a sentence"
    return ""


def _counts(values: Sequence[str], first: int) -> bool:
    return list(values) == [str(i) for i in range(first, first + len(values))]
