"""Answers that are parts of a text: the labels of its words and its entities, spans that answer a question, and words
for its masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.task_formats.tag_scheme import outside_of, scheme_of_names
from bertjax.data.task_formats.token_format import NO_WORD, Words
from bertjax.metrics.answer_report import Span, ranked_spans
from bertjax.metrics.entities import Entity, find_entities
from bertjax.tasks.masked_words import MASKED_WORD_READOUT, MaskedText
from bertjax.tasks.postprocess import AnswerOptions, Postprocess, Prediction, softmax


def _word_labels(
    logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
    """One label a word, and the entities that they mark, whatever windows a text was cut into.

    Where the tokenizer makes nothing of a word, its label is that of no entity, or an empty one where no label says so.
    The probability of an entity is the mean of those of its words' labels.
    """
    assert examples.row_of is not None
    scheme = (None if examples.words is None else examples.words.scheme) or scheme_of_names(names).scheme or "none"
    outside = outside_of(names, scheme) or ""
    labels = [[outside] * len(words) for words in rows.texts]
    probabilities = [[1.0] * len(words) for words in rows.texts]
    is_first = examples.reference != NO_WORD
    row_of = np.repeat(examples.row_of, examples.lengths)[is_first]
    of_words = logits[is_first]
    for row, word, best, likelihood in zip(
        row_of, examples.reference[is_first], of_words.argmax(axis=-1), softmax(of_words).max(axis=-1), strict=True
    ):
        labels[row][word], probabilities[row][word] = names[best], float(likelihood)
    return [
        {
            "words": list(words),
            "labels": of_row,
            "entities": _entities(words, find_entities(of_row, scheme), likelihoods, options.threshold),
        }
        for words, of_row, likelihoods in zip(rows.texts, labels, probabilities, strict=True)
    ]


def _entities(
    words: Sequence[str], found: Sequence[Entity], probabilities: Sequence[float], threshold: float | None
) -> list[Prediction]:
    """The entities of a text with their places in it, in characters."""
    placed = words if isinstance(words, Words) else Words.joined(words)
    entities = []
    for entity in found:
        start, end = placed.starts[entity.first], placed.starts[entity.last] + len(words[entity.last])
        probability = float(np.mean(probabilities[entity.first : entity.last + 1]))
        if threshold is None or probability >= threshold:
            place: Prediction = {"start": start, "end": end}
            entities.append({"text": placed.text[start:end], "label": entity.type, **place, "probability": probability})
    return entities


def _answer(
    logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
    """The best answer, and how much more it scores than none; below 0 the model says that the context has none."""
    ranked = ranked_spans(logits, examples.offsets, examples.reference, max(options.top_k, 1))
    return [_best_answer([_span(span) for span in spans], options) for spans in ranked]


def _span(span: Span) -> Prediction:
    """A span; its margin is None where there is no token that could answer."""
    margin = span.margin if np.isfinite(span.margin) else None
    return {"answer": span.text, "start": span.start, "end": span.end, "margin": margin}


def _best_answer(spans: list[Prediction], options: AnswerOptions) -> Prediction:
    best = dict(spans[0])
    if options.threshold is not None and (best["margin"] is None or best["margin"] < options.threshold):
        best = {"answer": "", "start": None, "end": None, "margin": best["margin"]}
    if options.threshold is not None:
        best["predicted"] = spans[0]["answer"]
    return best | ({"top": spans[: options.top_k]} if options.top_k else {})


def _masked_words(
    scores: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
    """The likeliest word for each mask, and the text with these."""
    texts: Sequence[MaskedText] = examples.reference
    return [_filled(masked, scores, options) for masked in texts]


def _filled(masked: MaskedText, scores: np.ndarray, options: AnswerOptions) -> Prediction:
    masks: list[dict[str, Any]] = []
    for (start, end), (words, probabilities) in zip(masked.places, masked.words(scores), strict=True):
        ranked = [
            {"word": word, "probability": probability} for word, probability in zip(words, probabilities, strict=True)
        ]
        top = {"top": ranked[: options.top_k]} if options.top_k else {}
        masks.append({**ranked[0], "start": start, "end": end, **top})
    return {"text": masked.filled([mask["word"] for mask in masks]), "masks": masks}


WORD_LABELS = Postprocess(
    {"words": "texts", "labels": "texts", "entities": "records"}, _word_labels, takes=("threshold",), says="labels"
)
ANSWER = Postprocess(
    {"answer": "text", "start": "number", "end": "number", "margin": "number"},
    _answer,
    label=lambda question: [answer.text for answer in question.answers],
    takes=("top_k", "threshold"),
)
MASKED_WORDS = Postprocess(
    {"text": "text", "masks": "records"},
    _masked_words,
    takes=("top_k",),
    readout=MASKED_WORD_READOUT,
)
