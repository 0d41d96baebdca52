"""How the labels of words compare: by entity where they are BIO tags, as CoNLL's evaluation has it, else by word."""

from collections.abc import Sequence

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.data.task_formats.token_format import is_bio
from bertjax.evaluation.classification_report import Scores, scores_by_label, scores_table
from bertjax.evaluation.reports import Report

_AVERAGES = ("micro avg", "macro avg", "weighted avg")  # seqeval's names


def tag_report(scores: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Compares labels of words: over all words and by label, or, of BIO tags, over all entities and by type. An entity
    is right if its type, first and last word are.

    Args:
      scores: [total tokens, L] logits.
      examples: with one label for each first piece of a word, and the sentence of each example as its row.
      names: of the labels, in index order.
    """
    labelled = examples.labels != UNLABELLED
    assert examples.row_of is not None
    sentence_of = np.repeat(examples.row_of, examples.lengths)[labelled]
    right, predicted = examples.labels[labelled], scores[labelled].argmax(axis=-1)
    cuts = np.flatnonzero(np.diff(sentence_of)) + 1
    accuracy = float((right == predicted).mean())
    if is_bio(names):
        tags = [
            [[names[i] for i in of_sentence] for of_sentence in np.split(side, cuts)] for side in (right, predicted)
        ]
        by_type = _entity_scores(*tags)
        micro, macro, _ = (by_type.pop(name) for name in _AVERAGES)
    else:
        by_type, (macro,) = scores_by_label(right, predicted, names, ("macro",))
        micro = Scores(accuracy, accuracy, accuracy, len(right))
    return Report(
        summary=f"{len(right)} words in {len(cuts) + 1} sentences, {len(by_type)} types",
        headline=[("F1", micro.f1), ("F1, macro", macro.f1), ("words with the right label", accuracy)],
        metrics={
            "f1": micro.f1, "precision": micro.precision, "recall": micro.recall,
            "accuracy": accuracy, **macro.metrics("_macro"),
        },
        parts={name: scores.metrics() for name, scores in by_type.items()},
        table=scores_table("type", by_type, {"micro": micro, "macro": macro}, counted="occurrences"),
    )  # fmt: skip


def _entity_scores(right: list[list[str]], predicted: list[list[str]]) -> dict[str, Scores]:
    from seqeval.metrics import classification_report as seqeval_report

    if not any(tag != "O" for sentence in (*right, *predicted) for tag in sentence):
        return {name: Scores(0.0, 0.0, 0.0, 0) for name in _AVERAGES}  # seqeval would divide by nothing
    rows = seqeval_report(right, predicted, output_dict=True, zero_division=0)
    return {
        name: Scores(float(row["precision"]), float(row["recall"]), float(row["f1-score"]), int(row["support"]))
        for name, row in rows.items()
    }
