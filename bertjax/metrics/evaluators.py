"""Evaluators: functions from the scores of some examples to a report (`Task.evaluator`)."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.metrics.classification_report import classification_report, multi_label_report
from bertjax.metrics.regression_report import regression_report
from bertjax.metrics.reports import HeadlineScore, Report
from bertjax.metrics.weighted.row_weights import InBlocks, RowMeans, WeightedScores, row_of_examples, sums_by_row

NEXT_SENTENCE_NAMES = ("follows", "does not follow")


def evaluate_classes(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """One class an example: logits [N, L]."""
    return classification_report(examples.labels, logits.argmax(axis=-1), names, logits)


def evaluate_label_sets(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Several labels an example: logits [N, L]."""
    return multi_label_report(examples.labels, logits > 0, names, logits)


def evaluate_numbers(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Numbers: [N, L]."""
    return regression_report(examples.labels, logits, names)


def evaluate_masked_words(scores: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Hidden tokens: [total tokens, 2], the loss of each in nats and whether its likeliest token is right.

    Perplexity is the number of equally likely tokens that the model seems to choose from.
    """
    is_hidden = examples.labels != UNLABELLED
    hidden = scores[is_hidden].astype(np.float64)
    loss, accuracy = hidden.mean(axis=0) if len(hidden) else (math.nan, math.nan)
    metrics = {"loss": float(loss), "perplexity": float(np.exp(loss)), "accuracy": float(accuracy)}
    summary = f"{len(hidden)} hidden tokens in {examples.num_examples} texts"
    row_of = row_of_examples(examples)
    of_hidden, rows = np.repeat(row_of, examples.lengths)[is_hidden], int(row_of[-1]) + 1
    sums = (sums_by_row(values, of_hidden, rows) for values in (*hidden.T, np.ones(len(hidden))))
    headline = [HeadlineScore(key, value, key) for key, value in metrics.items()]
    return Report(summary, headline, metrics, weighted=InBlocks(partial(_masked_words, *sums)))


def _masked_words(loss: np.ndarray, right: np.ndarray, count: np.ndarray, weights: np.ndarray) -> WeightedScores:
    """The metrics of a block, from what the hidden tokens of each row add up to."""
    total = count @ weights
    mean = loss @ weights / total
    return WeightedScores({"loss": mean, "perplexity": np.exp(mean), "accuracy": right @ weights / total})


def evaluate_choices(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """The best of several candidates: scores [N, C]. The reciprocal rank is 1 / the place of the right candidate."""
    labels, candidates = examples.labels, logits.shape[1]
    of_right = np.take_along_axis(logits, labels[:, None], axis=1)
    by_row = {
        "accuracy": (logits.argmax(axis=1) == labels).astype(np.float64),
        "reciprocal_rank": 1 / (1 + (logits > of_right).sum(axis=1)),
    }
    metrics = {key: float(values.mean()) for key, values in by_row.items()}
    return Report(
        summary=f"{len(labels)} questions of {candidates} candidates",
        headline=[
            HeadlineScore("accuracy", metrics["accuracy"], "accuracy"),
            HeadlineScore("mean reciprocal rank", metrics["reciprocal_rank"], "reciprocal_rank"),
            HeadlineScore("chance", 1 / candidates, None),
        ],
        metrics=metrics,
        weighted=InBlocks(RowMeans(by_row)),
    )


def evaluate_next_sentence(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Whether one text follows another: logits [N, 2]."""
    return classification_report(examples.labels, logits.argmax(axis=-1), NEXT_SENTENCE_NAMES, logits)


def evaluate_cosines(cosines: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """The cosine of two texts: [N]."""
    return regression_report(examples.labels[:, None], cosines[:, None], ("cosine",), first="spearman")
