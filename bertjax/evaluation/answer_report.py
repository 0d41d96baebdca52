"""Answers from scores, and SQuAD's exact match and F1 (Rajpurkar et al. 2016, 2018), as shares of 1."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.task_formats.answer_format import NO_CHARACTER, Contexts
from bertjax.evaluation.reports import ScoreTable

_CANDIDATES = 20  # first and last tokens tried in a window
LONGEST_ANSWER = 30  # tokens


class Agreement(NamedTuple):
    """How answers agree with the labels.

    Attributes:
      exact_match: share of questions answered in the same words, apart from case, punctuation and articles.
      f1: mean overlap of words.
      support: questions.
    """

    exact_match: float
    f1: float
    support: int


class AnswerReport(NamedTuple):
    """How predicted answers compare with right ones.

    Attributes:
      whole: over all questions.
      by_kind: questions with and without an answer.
      answers: question id -> the predicted answer, empty where the model finds none.
    """

    whole: Agreement
    by_kind: dict[str, Agreement]
    answers: dict[str, str]
    confusion: None = None

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys: `test/f1`, `test/exact_match`, and `test/class/unanswerable/f1` by kind."""
        numbers = ("exact_match", "f1")
        return {f"{prefix}/{key}": getattr(self.whole, key) for key in numbers} | {
            f"{prefix}/class/{kind}/{key}": getattr(agreement, key)
            for kind, agreement in self.by_kind.items()
            for key in numbers
        }

    @property
    def summary(self) -> str:
        """The rows behind the report, in words."""
        return f"{self.whole.support} questions"

    @property
    def headline(self) -> list[tuple[str, float]]:
        """The main metrics, the most important first."""
        return [("F1", self.whole.f1), ("exact match", self.whole.exact_match)]

    @property
    def table(self) -> ScoreTable:
        """Agreement by kind of question."""
        columns = ("kind", "exact match", "F1", "questions")
        return ScoreTable("By kind", columns, list(self.by_kind.items()), [("all", self.whole)])


def answer_report(scores: np.ndarray, examples: Examples, names: Sequence[str]) -> AnswerReport:
    """Compares answers.

    Args:
      scores: [total tokens, 2] logits of a first and of a last token.
      examples: windows, with their `Contexts` as reference.
      names: none.
    """
    contexts: Contexts = examples.reference
    right = [[answer.text for answer in question.answers] for question in contexts.questions]
    spans = best_spans(scores, examples.offsets, contexts)
    may_be_none = not all(right)
    predicted = ["" if may_be_none and span.null_score > span.score else span.text for span in spans]
    # Without an answer, an empty one is right; an answer of articles alone counts as none.
    golds = [[text for text in texts if normalised(text)] or [""] for texts in right]
    exact = np.array([_best(_is_same, text, gold) for text, gold in zip(predicted, golds, strict=True)])
    f1 = np.array([_best(_overlap, text, gold) for text, gold in zip(predicted, golds, strict=True)])
    answerable = np.array([bool(texts) for texts in right])

    def over(which: np.ndarray) -> Agreement:
        return Agreement(float(exact[which].mean()), float(f1[which].mean()), int(which.sum()))

    kinds = {"answerable": answerable, "unanswerable": ~answerable}
    return AnswerReport(
        over(np.ones(len(f1), bool)),
        {kind: over(which) for kind, which in kinds.items() if which.any()},
        {question.id: text for question, text in zip(contexts.questions, predicted, strict=True)},
    )


class Span(NamedTuple):
    """A predicted answer.

    Attributes:
      text: its words, a part of the context.
      score: the sum of the logits of its first and last token.
      null_score: that of `[CLS]` for both, in the window where it is least: the score of no answer.
    """

    text: str
    score: float
    null_score: float


def best_spans(scores: np.ndarray, offsets: np.ndarray, contexts: Contexts) -> list[Span]:
    """The best answer to each question over all of its windows.

    Args:
      scores: [total tokens, 2] logits of a first and of a last token.
      offsets: [N + 1] where each window begins.
      contexts: the way back from tokens to the text.
    """
    best = [Span("", -np.inf, np.inf)] * len(contexts.questions)
    for window, question in enumerate(contexts.question_of.tolist()):
        tokens = slice(offsets[window], offsets[window + 1])
        text, score, null_score = best[question]
        null_score = min(null_score, scores[tokens.start].sum())
        of_window, first, last = _best_span(scores[tokens], contexts.characters[tokens, 0] != NO_CHARACTER)
        if of_window > score:
            begin, end = contexts.characters[tokens][[first, last], [0, 1]]
            text, score = contexts.contexts[question][begin:end], of_window
        best[question] = Span(text, score, null_score)
    return best


def _best_span(scores: np.ndarray, is_context: np.ndarray) -> tuple[float, int, int]:
    """The score, first and last token of the best span within the context."""
    starts, ends = (np.where(is_context, of, -np.inf) for of in scores.T)
    firsts, lasts = (np.argsort(-of, kind="stable")[:_CANDIDATES] for of in (starts, ends))
    lengths = lasts[None, :] - firsts[:, None] + 1
    sums = np.where((lengths >= 1) & (lengths <= LONGEST_ANSWER), starts[firsts][:, None] + ends[lasts], -np.inf)
    i, j = np.unravel_index(sums.argmax(), sums.shape)
    return float(sums[i, j]), int(firsts[i]), int(lasts[j])


def normalised(text: str) -> str:
    """An answer without case, punctuation, articles and superfluous spaces.

    >>> normalised("The  Cat's hat.")
    'cats hat'
    """
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _best(score: Callable[[str, str], float], predicted: str, golds: Sequence[str]) -> float:
    return max(score(predicted, gold) for gold in golds)


def _is_same(predicted: str, gold: str) -> float:
    return float(normalised(predicted) == normalised(gold))


def _overlap(predicted: str, gold: str) -> float:
    left, right = normalised(predicted).split(), normalised(gold).split()
    if not left or not right:
        return float(left == right)
    common = sum((Counter(left) & Counter(right)).values())
    return 2 * common / (len(left) + len(right))
