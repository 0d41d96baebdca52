"""Questions and the text that answers them: where an answer begins and ends, in windows over a long text.

Source: BERT, section 4.2; windows and labels as in its `run_squad.py`.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import Windows, in_windows
from bertjax.data.rows.cells import BadCell, is_missing, label_text, shown
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.literals import parse_literal, plain
from bertjax.data.table import Table
from bertjax.data.task_formats.task_format import Encoding, TaskFormat, pair_columns, plain_pair
from bertjax.errors import ConfigError
from bertjax.stage_progress import UNSHOWN, StageProgress

logger = logging.getLogger(__name__)

NO_CHARACTER = -1  # of a token outside of the context


class Answer(NamedTuple):
    """An answer, as a piece of the context."""

    start: int  # its first character there, counted from 0
    text: str


class Question(NamedTuple):
    """A question beside its text."""

    id: str  # its name in the table, or its text
    answers: tuple[Answer, ...]  # each of them right; none where the context has no answer


class Contexts(NamedTuple):
    """The way back from tokens to the text."""

    questions: Sequence[Question]  # of the table, in its order
    contexts: Sequence[str]  # the text of each
    question_of: np.ndarray  # [N] the question of each window; the windows of a question follow one another
    characters: np.ndarray  # [total tokens, 2] where each token begins and ends in its context; -1 outside of it


def _read_label(cells: Mapping[str, Any], table: Table, texts: tuple[Any, Any]) -> Question:
    question, context = texts
    cell = cells.get("id")
    name = question if is_missing(cell) else label_text(cell) or question
    answers = tuple(_answers(cells[table.label], table.label, name))
    for answer in answers:
        _check(answer, context, name)
    return Question(name, answers)


def _answers(cell: Any, column: str, name: str) -> list[Answer]:
    """Answers as SQuAD has them: a list of objects with text and answer_start, or an object of two such lists."""
    cell = parse_literal(cell) if isinstance(cell, str) else plain(cell)
    if isinstance(cell, Mapping) and {"text", "answer_start"} <= set(cell):
        texts, starts = (
            list(item) if isinstance(item, list | tuple | np.ndarray) else [item]
            for item in (cell["text"], cell["answer_start"])
        )
        cell = [{"text": text, "answer_start": start} for text, start in zip_longest(texts, starts)]
    well_formed = isinstance(cell, list | tuple) and all(
        isinstance(item, Mapping) and isinstance(item.get("text"), str) and _is_whole(item.get("answer_start"))
        for item in cell
    )
    if not well_formed:
        raise BadCell(
            f"has no answers to question {name!r} in column {column!r}: they must be objects with text and "
            f"answer_start, or an empty list"
        )
    return [Answer(int(item["answer_start"]), item["text"]) for item in cell if item["text"].strip()]


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _check(answer: Answer, context: str, name: str) -> None:
    end = answer.start + len(answer.text)
    if not 0 <= answer.start <= end <= len(context):
        raise BadCell(
            f"cuts off an answer to question {name!r}: {shown(answer.text)} at character {answer.start} ends beyond "
            f"its context of {len(context)} characters"
        )
    if context[answer.start : end] != answer.text:
        raise BadCell(
            f"misplaces an answer to question {name!r}: at character {answer.start} of its context stands "
            f"{shown(context[answer.start : end])}, not {shown(answer.text)}"
        )


def _encode(rows: Rows, source: str, encoding: Encoding) -> Examples:
    assert rows.pairs is not None
    settings = encoding.max_length, encoding.table.doc_stride, encoding.progress
    windows = answer_windows(encoding.tokenizer, rows.texts, rows.pairs, *settings)
    places = chain.from_iterable(zip(window.offsets, window.sequence_ids, strict=True) for window in windows.parts)
    characters = np.array([at if part == 1 else (NO_CHARACTER, NO_CHARACTER) for at, part in places], np.int32)
    labels = _labels(windows, characters, rows.labels)
    learnable = {int(question) for question, label in zip(windows.text_of, labels, strict=True) if label.any()}
    lost = sum(bool(question.answers) and i not in learnable for i, question in enumerate(rows.labels))
    warn_of_unlearnable(source, lost)
    reference = Contexts(rows.labels, rows.pairs, windows.text_of, characters)
    return Examples(*windows.tokens, labels, truncated=0, row_of=windows.text_of, reference=reference, unlearnable=lost)


def answer_windows(
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[str],
    contexts: Sequence[str],
    max_length: int,
    doc_stride: int | None,
    progress: StageProgress = UNSHOWN,
) -> Windows:
    """Questions, cut to half a window, each with the windows over its context.

    Args:
      tokenizer: a fast tokenizer.
      questions, contexts: aligned.
      max_length: longest window, in tokens.
      doc_stride: tokens that neighbouring windows share; None for a quarter of a window.
      progress: shows how many are encoded.

    Raises:
      ConfigError: windows would not move on.
    """
    room = max_length // 2
    overlap = max_length // 4 if doc_stride is None else doc_stride
    if not 0 <= overlap < max_length - room:
        raise ConfigError(
            f"--doc-stride {overlap} must be under {max_length - room}, half of --max-length, or windows would not "
            f"move on"
        )
    cut = _cut(tokenizer, questions, room - tokenizer.num_special_tokens_to_add(pair=True))
    return in_windows(tokenizer, cut, contexts, max_length, overlap, progress)


def warn_of_unlearnable(source: str, count: int) -> None:
    """Logs how many answers lie in none of the windows."""
    if count:
        logger.warning("%s: the answers to %d questions are longer than a window, and cannot be learned", source, count)


def _cut(tokenizer: PreTrainedTokenizerFast, questions: Sequence[str], longest: int) -> list[str]:
    """The questions, each cut to its first tokens where it has too many for its half of a window."""
    encoded = tokenizer(list(questions), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        question if len(offsets) <= longest else question[: offsets[longest - 1][1]]
        for question, offsets in zip(questions, encoded["offset_mapping"], strict=True)
    ]


def _labels(windows: Windows, characters: np.ndarray, questions: Sequence[Question]) -> np.ndarray:
    """[N, 2] the first and last token of the first answer in each window, counted from the window's start; [CLS], at 0,
    where the whole answer is not in it.
    """
    labels = np.zeros((len(windows.text_of), 2), np.int32)
    for window, question in enumerate(windows.text_of.tolist()):
        if not questions[question].answers:
            continue
        answer = questions[question].answers[0]
        text = answer.text.strip()
        start = answer.start + answer.text.index(text)
        begins, ends = characters[windows.tokens.offsets[window] : windows.tokens.offsets[window + 1]].T
        context = np.flatnonzero(begins != NO_CHARACTER)
        inside = context[(ends[context] > start) & (begins[context] < start + len(text))]
        if len(inside) and begins[context[0]] <= start and ends[context[-1]] >= start + len(text):
            labels[window] = inside[0], inside[-1]
    return labels


QUESTION_ANSWERING = TaskFormat(
    task="question_answering",
    text_columns=lambda table: pair_columns(table, "question_answering"),
    read_label=_read_label,
    encode=_encode,
    plain=plain_pair,
    sample=("a", "a"),
    placeholder=lambda question, names: Question("", ()),
    comparable=lambda question: question.answers,
    optional=("id",),
    positions=True,
    evaluated_by_texts=True,
    usual={"text": (("question",),), "text_pair": (("context",),), "label": (("answers",),)},
)
