"""Answers from scores, and SQuAD's exact match and F1 (Rajpurkar et al. 2016, 2018), as shares of 1."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.task_formats.answer_format import NO_CHARACTER, Contexts
from bertjax.metrics.fallback import round_between
from bertjax.metrics.reports import HeadlineScore, Report, ScoreTable
from bertjax.metrics.weighted.row_weights import InBlocks, RowMeans

_CANDIDATES = 20  # first and last tokens tried in a window
LONGEST_ANSWER = 30  # tokens
_BEYOND = 1.0  # how far a threshold lies beyond the last margin, where none is on its other side
_EQUAL = 1e-12  # of a question: two sums of the same scores, in whatever order


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

    def metrics(self) -> dict[str, float]:
        """Both shares by their keys."""
        return {"exact_match": self.exact_match, "f1": self.f1}


def answer_report(scores: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Compares answers; questions with and without an answer are the parts.

    Args:
      scores: [total tokens, 2] logits of a first and of a last token.
      examples: windows, with their `Contexts` as reference.
      names: none.
    """
    right = [[answer.text for answer in question.answers] for question in examples.reference.questions]
    # Without an answer, an empty one is right; an answer of articles alone counts as none.
    golds = [[text for text in texts if normalised(text)] or [""] for texts in right]
    spans = best_spans(scores, examples.offsets, examples.reference)
    exact, f1 = _agreement(_answers(spans, examples.reference), golds)
    answerable = np.array([bool(texts) for texts in right])

    def over(which: np.ndarray) -> Agreement:
        return Agreement(float(exact[which].mean()), float(f1[which].mean()), int(which.sum()))

    kinds = {"answerable": answerable, "unanswerable": ~answerable}
    kinds = {kind: which for kind, which in kinds.items() if which.any()}
    by_kind = {kind: over(which) for kind, which in kinds.items()}
    whole = over(np.ones(len(f1), bool))
    columns = ("kind", "exact match", "F1", "questions")
    summary, metrics = f"{whole.support} questions", whole.metrics()
    if not answerable.all():
        given, none = _agreement([span.text for span in spans], golds), _agreement([""] * len(spans), golds)
        margins = np.array([span.margin for span in spans])
        best_exact, best_f1 = (best_margin(margins, *scores) for scores in zip(given, none, strict=True))
        metrics |= {"best_exact_match": best_exact.score, "best_exact_match_threshold": best_exact.threshold}
        metrics |= {"best_f1": best_f1.score, "best_f1_threshold": best_f1.threshold}
        summary += f"; F1 would be {best_f1.score:.4f} with --threshold {best_f1.threshold!r} of bertjax predict"
    return Report(
        summary=summary,
        headline=[HeadlineScore("F1", whole.f1, "f1"), HeadlineScore("exact match", whole.exact_match, "exact_match")],
        metrics=metrics,
        parts={kind: agreement.metrics() for kind, agreement in by_kind.items()},
        table=ScoreTable("By kind", columns, list(by_kind.items()), [("all", whole)]),
        weighted=InBlocks(RowMeans({"exact_match": exact.astype(np.float64), "f1": f1}, kinds)),
    )


def _answers(spans: Sequence["Span"], contexts: Contexts) -> list[str]:
    """The answer to each question; empty if the model finds none, which it may only if some question has no answer."""
    may_be_none = not all(question.answers for question in contexts.questions)
    return ["" if may_be_none and span.null_score > span.score else span.text for span in spans]


def _agreement(texts: Sequence[str], golds: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """[N] whether each text matches one of its right answers, and [N] the best overlap with one."""
    pairs = list(zip(texts, golds, strict=True))
    exact = np.array([max(normalised(text) == normalised(gold) for gold in right) for text, right in pairs])
    return exact, np.array([max(_overlap(text, gold) for gold in right) for text, right in pairs])


class BestMargin(NamedTuple):
    """The least margin that an answer must have for the best mean score of all questions.

    Attributes:
      score: the mean then.
      threshold: the margin, as `AnswerOptions.threshold` takes it; an answer below it is none.
    """

    score: float
    threshold: float


def best_margin(margins: np.ndarray, given: np.ndarray, none: np.ndarray) -> BestMargin:
    """The best threshold of SQuAD 2.0 (`find_best_thresh` of evaluate-v2.0.py, https://rajpurkar.github.io/SQuAD-
    explorer), in O(N log N): of several the one that keeps the most answers, and well between two margins.

    Args:
      margins: [N] how much more an answer scores than none; -inf where there is no answer to give.
      given: [N] score of each question if its answer is given.
      none: [N] if it is not.
    """
    order = np.argsort(-margins, kind="stable")
    margins, gains = margins[order], (given.astype(np.float64) - none)[order]
    kept = np.arange(len(margins) + 1)
    totals = np.concatenate([[0.0], np.cumsum(gains)])
    # No threshold parts equal margins, and none keeps an answer that is not there.
    finite = margins[np.isfinite(margins)]
    least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    above = np.concatenate([[most + _BEYOND], margins])
    below = np.maximum(np.concatenate([margins, [-np.inf]]), least - _BEYOND)
    is_split = (above > below) & (kept <= len(finite))
    best = int(np.flatnonzero(is_split & (totals >= totals[is_split].max() - _EQUAL * len(margins)))[-1])
    threshold = round_between(float(below[best]), float(above[best]))
    return BestMargin(float((none.sum() + totals[best]) / len(margins)), threshold)


class Span(NamedTuple):
    """A predicted answer.

    Attributes:
      text: its words, a part of the context.
      score: the sum of the logits of its first and last token.
      null_score: that of `[CLS]` for both, in the window where it is least: the score of no answer.
      start, end: where it begins and ends in the context, in characters.
    """

    text: str
    score: float
    null_score: float
    start: int
    end: int

    @property
    def margin(self) -> float:
        """How much more it scores than no answer; -inf where there is no token that could answer."""
        margin = float(self.score - self.null_score)
        return margin if np.isfinite(margin) else -np.inf


def best_spans(scores: np.ndarray, offsets: np.ndarray, contexts: Contexts) -> list[Span]:
    """The best answer to each question over all of its windows; see `ranked_spans`."""
    return [spans[0] for spans in ranked_spans(scores, offsets, contexts, 1)]


def ranked_spans(scores: np.ndarray, offsets: np.ndarray, contexts: Contexts, count: int) -> list[list[Span]]:
    """The best answers to each question over all of its windows, best first; where a context has no token, one of no
    text.

    Args:
      scores: [total tokens, 2] logits of a first and of a last token.
      offsets: [N + 1] where each window begins.
      contexts: the way back from tokens to the text.
      count: answers to a question, at most.
    """
    null_scores = [np.inf] * len(contexts.questions)
    best: list[dict[tuple[int, int], float]] = [{} for _ in contexts.questions]  # of each question, by characters
    for window, question in enumerate(contexts.question_of.tolist()):
        tokens = slice(offsets[window], offsets[window + 1])
        null_scores[question] = min(null_scores[question], scores[tokens.start].sum())
        characters = contexts.characters[tokens]
        for score, first, last in _best_token_spans(scores[tokens], characters[:, 0] != NO_CHARACTER, count):
            place = int(characters[first, 0]), int(characters[last, 1])
            best[question][place] = max(score, best[question].get(place, -np.inf))
    return [
        [
            Span(contexts.contexts[question][start:end], score, null_score, start, end)
            for (start, end), score in sorted(found.items(), key=lambda item: -item[1])[:count]
        ]
        or [Span("", -np.inf, null_score, 0, 0)]
        for question, (found, null_score) in enumerate(zip(best, null_scores, strict=True))
    ]


def _best_token_spans(scores: np.ndarray, is_context: np.ndarray, count: int) -> list[tuple[float, int, int]]:
    """The score, first and last token of the best spans within the context."""
    starts, ends = (np.where(is_context, of, -np.inf) for of in scores.T)
    firsts, lasts = (np.argsort(-of, kind="stable")[:_CANDIDATES] for of in (starts, ends))
    lengths = lasts[None, :] - firsts[:, None] + 1
    sums = np.where((lengths >= 1) & (lengths <= LONGEST_ANSWER), starts[firsts][:, None] + ends[lasts], -np.inf)
    best = np.argsort(-sums, axis=None, kind="stable")[:count]
    found = zip(*np.unravel_index(best, sums.shape), strict=True)
    return [(float(sums[i, j]), int(firsts[i]), int(lasts[j])) for i, j in found if sums[i, j] > -np.inf]


def normalised(text: str) -> str:
    """An answer without case, punctuation, articles and superfluous spaces.

    >>> normalised("The  Cat's hat.")
    'cats hat'
    """
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _overlap(predicted: str, gold: str) -> float:
    left, right = normalised(predicted).split(), normalised(gold).split()
    if not left or not right:
        return float(left == right)
    common = sum((Counter(left) & Counter(right)).values())
    return 2 * common / (len(left) + len(right))
