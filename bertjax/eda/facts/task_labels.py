"""What labels that point into a text say: entities and words that have several types, answers and their places."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bertjax.data.table import TagScheme
from bertjax.data.task_formats.answer_format import Question
from bertjax.metrics.entities import Entity, find_entities
from bertjax.report_pages.histogram import Histogram, histogram

_LISTED = 50
_EXAMPLES = 5


class EntityType(NamedTuple):
    """A type of entities.

    Attributes:
      name: such as PER; the label itself where labels mark no entities.
      entities: occurrences.
      sentences: rows that have one.
      distinct: different ones, case aside.
      words: of one on average.
      frequent: the most frequent ones.
    """

    name: str
    entities: int
    sentences: int
    distinct: int
    words: float
    frequent: tuple[str, ...]


class SeveralTypes(NamedTuple):
    """A word that stands in entities of several types, or outside of any as well."""

    word: str
    types: dict[str, int]  # the most frequent first


class EntityFacts(NamedTuple):
    """The labels of words.

    Attributes:
      scheme: how labels mark entities; `none` where every label stands for itself.
      words: labelled ones.
      inside: share of them in an entity.
      types: the most frequent first.
      ambiguous: words of several types, the most frequent first; at most 50 of them.
      num_ambiguous: all of these.
    """

    scheme: str
    words: int
    inside: float
    types: tuple[EntityType, ...]
    ambiguous: tuple[SeveralTypes, ...]
    num_ambiguous: int


def entity_facts(
    sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str | None]], scheme: TagScheme | None
) -> EntityFacts:
    """The entities of sentences, by the labels of their words; None marks a word without a label."""
    scheme = scheme or "none"
    spans: dict[str, list[str]] = {}
    lengths: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    types_of: dict[str, Counter[str]] = {}
    inside = labelled = 0
    for words, labels in zip(sentences, tags, strict=True):
        found = _spans(labels, scheme)
        of_words: list[str | None] = [None if label is None else "O" for label in labels]
        for name, first, last in found:
            spans.setdefault(name, []).append(" ".join(words[first : last + 1]).casefold())
            lengths[name] += last - first + 1
            for i in range(first, last + 1):
                of_words[i] = name
        rows.update({name for name, _, _ in found})
        for word, kind in zip(words, of_words, strict=True):
            if kind is not None:
                labelled += 1
                inside += kind != "O" or scheme == "none"
                types_of.setdefault(word.casefold(), Counter())[kind] += 1
    several = [(word, types) for word, types in types_of.items() if len(types.keys() - {"O"}) > 1]
    several.sort(key=lambda item: -item[1].total())
    return EntityFacts(
        scheme,
        labelled,
        inside / max(labelled, 1),
        tuple(
            _entity_type(name, spans[name], rows[name], lengths[name])
            for name in sorted(spans, key=lambda name: -len(spans[name]))
        ),
        tuple(SeveralTypes(word, dict(types.most_common())) for word, types in several[:_LISTED]),
        len(several),
    )


def _spans(labels: Sequence[str | None], scheme: TagScheme) -> list[Entity]:
    if scheme == "none":
        return [Entity(label, i, i) for i, label in enumerate(labels) if label is not None]
    return find_entities([label or "O" for label in labels], scheme)


def _entity_type(name: str, spans: list[str], rows: int, words: int) -> EntityType:
    counts = Counter(spans)
    frequent = tuple(f"{text} ({count})" for text, count in counts.most_common(_EXAMPLES))
    return EntityType(name, len(spans), rows, len(counts), words / len(spans), frequent)


class AnswerFacts(NamedTuple):
    """The answers to questions.

    Attributes:
      questions: their number.
      unanswerable: those without an answer in their context.
      several: those with different right answers.
      words: of the first answer of each, by white space: mean, median and most.
      lengths: histogram of these words.
      places: histogram of where the first answer begins, from 0, the start of the context, to 1.
      mean_place: their mean.
    """

    questions: int
    unanswerable: int
    several: int
    words: tuple[float, float, int]
    lengths: Histogram | None
    places: Histogram | None
    mean_place: float | None


def answer_facts(questions: Sequence[Question], contexts: Sequence[Any]) -> AnswerFacts:
    """The lengths and places of answers."""
    answered = [(question.answers, context) for question, context in zip(questions, contexts, strict=True)]
    firsts = [(answers[0], context) for answers, context in answered if answers]
    several = sum(len({answer.text for answer in answers}) > 1 for answers, _ in answered)
    if not firsts:
        return AnswerFacts(len(questions), len(questions), 0, (0.0, 0.0, 0), None, None, None)
    words = np.array([len(answer.text.split()) for answer, _ in firsts])
    places = np.array([answer.start / max(1, len(context)) for answer, context in firsts])
    return AnswerFacts(
        len(questions),
        len(questions) - len(firsts),
        several,
        (float(words.mean()), float(np.median(words)), int(words.max())),
        histogram(words),
        histogram(places, bins=10),
        float(places.mean()),
    )
