"""Evaluators: functions from the scores of some examples to a report (`Task.evaluator`)."""

from collections.abc import Sequence

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.metrics.classification_report import classification_report, multi_label_report
from bertjax.metrics.regression_report import regression_report
from bertjax.metrics.reports import Report

NEXT_SENTENCE_NAMES = ("follows", "does not follow")


def evaluate_classes(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """One class an example: logits [N, L]."""
    return classification_report(examples.labels, logits.argmax(axis=-1), names)


def evaluate_label_sets(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Several labels an example: logits [N, L]."""
    return multi_label_report(examples.labels, logits > 0, names)


def evaluate_numbers(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Numbers: [N, L]."""
    return regression_report(examples.labels, logits, names)


def evaluate_masked_words(scores: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Hidden tokens: [total tokens, 2], the loss of each in nats and whether its likeliest token is right.

    Perplexity is the number of equally likely tokens that the model seems to choose from.
    """
    hidden = scores[examples.labels != UNLABELLED].astype(np.float64)
    loss, accuracy = hidden.mean(axis=0)
    metrics = {"loss": float(loss), "perplexity": float(np.exp(loss)), "accuracy": float(accuracy)}
    summary = f"{len(hidden)} hidden tokens in {examples.num_examples} texts"
    return Report(summary, list(metrics.items()), metrics)


def evaluate_choices(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """The best of several candidates: scores [N, C]. The reciprocal rank is 1 / the place of the right candidate."""
    labels, candidates = examples.labels, logits.shape[1]
    of_right = np.take_along_axis(logits, labels[:, None], axis=1)
    reciprocal_rank = float((1 / (1 + (logits > of_right).sum(axis=1))).mean())
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    return Report(
        summary=f"{len(labels)} questions of {candidates} candidates",
        headline=[("accuracy", accuracy), ("mean reciprocal rank", reciprocal_rank), ("chance", 1 / candidates)],
        metrics={"accuracy": accuracy, "reciprocal_rank": reciprocal_rank},
    )


def evaluate_next_sentence(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Whether one text follows another: logits [N, 2]."""
    return classification_report(examples.labels, logits.argmax(axis=-1), NEXT_SENTENCE_NAMES)


def evaluate_cosines(cosines: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """The cosine of two texts: [N]."""
    return regression_report(examples.labels[:, None], cosines[:, None], ("cosine",), first="spearman")
