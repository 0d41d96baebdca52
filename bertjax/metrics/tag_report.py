"""Metrics of word labels: per entity if the labels mark entities, as in CoNLL's evaluation, else per word."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.data.task_formats.tag_scheme import OUTSIDE, STRICT, TagScheme, as_seqeval, outside_of, scheme_of_names
from bertjax.metrics.classification_report import Scores, scores_by_label, scores_table
from bertjax.metrics.reports import HeadlineScore, Report
from bertjax.metrics.weighted.row_weights import InBlocks, row_of_examples
from bertjax.metrics.weighted.tag_scores import EntityScores, WordScores

_AVERAGES = ("micro avg", "macro avg", "weighted avg")  # seqeval's names
_NOTHING = -1  # predicted where no label is


def tag_report(scores: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Compares labels of words: over all entities and by type, or, of labels that mark none, over all words and by
    label. An entity is right if its type, first and last word are. Of a word of which the tokenizer makes no piece
    nothing is predicted: it is in no entity.

    Args:
      scores: [total tokens, L] logits.
      examples: with one label for each first piece of a word, and the sentence of each example as its row.
      names: of the labels, in index order.
    """
    scheme = (None if examples.words is None else examples.words.scheme) or scheme_of_names(names).scheme or "none"
    sentence_of, right, predicted = _words(scores, examples, outside_of(names, scheme), names)
    accuracy = float((right == predicted).mean()) if len(right) else 0.0
    cuts = np.flatnonzero(np.diff(sentence_of)) + 1
    sentences = len(cuts) + 1 if len(right) else 0
    summary = f"{len(right)} words in {sentences} sentences, "
    places = sentence_of, int(row_of_examples(examples)[-1]) + 1
    if scheme == "none":
        by_label, (macro,) = scores_by_label(right, predicted, names, ("macro",))
        micro = Scores(accuracy, accuracy, accuracy, len(right))
        return Report(
            summary=f"{summary}{len(by_label)} labels that mark no entities, judged word by word",
            headline=[
                HeadlineScore("words with the right label", accuracy, "accuracy"),
                HeadlineScore("F1, macro", macro.f1, "f1_macro"),
            ],
            metrics={"accuracy": accuracy, **macro.metrics("_macro")},
            parts={name: scores.metrics() for name, scores in by_label.items()},
            table=scores_table("label", by_label, {"micro": micro, "macro": macro}, counted="occurrences"),
            weighted=InBlocks(WordScores(right, predicted, *places, names)),
        )
    spelled = np.array([*map(as_seqeval, names), OUTSIDE], object)  # the last one for _NOTHING
    true_tags, predicted_tags = (
        [part.tolist() for part in np.split(spelled[side], cuts)] for side in (right, predicted)
    )
    by_type = _entity_scores(true_tags, predicted_tags, scheme)
    micro, macro, _ = (by_type.pop(name) for name in _AVERAGES)
    return Report(
        summary=f"{summary}{len(by_type)} types of entities ({scheme})",
        headline=[
            HeadlineScore("F1", micro.f1, "f1"),
            HeadlineScore("F1, macro", macro.f1, "f1_macro"),
            HeadlineScore("words with the right label", accuracy, "accuracy"),
        ],
        metrics={
            "f1": micro.f1, "precision": micro.precision, "recall": micro.recall,
            "accuracy": accuracy, **macro.metrics("_macro"),
        },
        parts={name: scores.metrics() for name, scores in by_type.items()},
        table=scores_table("type", by_type, {"micro": micro, "macro": macro}, counted="occurrences"),
        weighted=InBlocks(EntityScores(true_tags, predicted_tags, scheme, *places, tuple(by_type))),
    )  # fmt: skip


def _words(
    scores: np.ndarray, examples: Examples, outside: str | None, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sentence, label and predicted label of each labelled word: [words] each."""
    labelled = examples.labels != UNLABELLED
    assert examples.row_of is not None
    sentence_of = np.repeat(examples.row_of, examples.lengths)[labelled]
    right, predicted = examples.labels[labelled], scores[labelled].argmax(axis=-1)
    if examples.words is None:
        return sentence_of, right, predicted
    lost = examples.words.lost
    places = np.searchsorted(sentence_of, lost.rows) + lost.before
    nothing = _NOTHING if outside is None else list(names).index(outside)
    return (
        np.insert(sentence_of, places, lost.rows),
        np.insert(right, places, lost.labels),
        np.insert(predicted, places, nothing),
    )


def _entity_scores(right: list[list[str]], predicted: list[list[str]], scheme: TagScheme) -> dict[str, Scores]:
    from seqeval import scheme as schemes
    from seqeval.metrics import classification_report as seqeval_report

    nothing = {name: Scores(0.0, 0.0, 0.0, 0) for name in _AVERAGES}
    if not any(tag != OUTSIDE for sentence in (*right, *predicted) for tag in sentence):
        return nothing  # seqeval would divide by nothing
    strict: dict[str, Any] = {}
    if scheme in STRICT:
        strict = {"mode": "strict", "scheme": {"bioes": schemes.IOBES, "bilou": schemes.BILOU}[scheme]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # tags that make up no entity: it divides by nothing
        rows = seqeval_report(right, predicted, output_dict=True, zero_division=0, **strict)
    if rows.keys() == set(_AVERAGES):
        return nothing
    return {
        name: Scores(float(row["precision"]), float(row["recall"]), float(row["f1-score"]), int(row["support"]))
        for name, row in rows.items()
    }
