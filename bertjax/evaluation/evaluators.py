"""Evaluators: functions from the scores of some examples to a report (`Task.evaluator`)."""

from collections.abc import Callable, Sequence

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.evaluation.choice_report import choice_report
from bertjax.evaluation.classification_report import classification_report, multi_label_report
from bertjax.evaluation.masked_lm_report import MaskedWordsReport
from bertjax.evaluation.regression_report import regression_report
from bertjax.evaluation.reports import Report

Evaluator = Callable[[np.ndarray, Examples, Sequence[str]], Report]
"""(scores (`Task.scores`), one entry an example or a token; the examples; the label names) -> the report."""

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
    """Hidden tokens: [total tokens, 2], the loss of each and whether its likeliest token is right."""
    hidden = scores[examples.labels != UNLABELLED].astype(np.float64)
    loss, accuracy = hidden.mean(axis=0)
    return MaskedWordsReport(float(loss), float(accuracy), len(hidden), examples.num_examples)


def evaluate_choices(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """The best of several candidates: scores [N, C]."""
    return choice_report(examples.labels, logits)


def evaluate_next_sentence(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """Whether one text follows another: logits [N, 2]."""
    return classification_report(examples.labels, logits.argmax(axis=-1), NEXT_SENTENCE_NAMES)


def evaluate_cosines(cosines: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    """The cosine of two texts: [N]."""
    report = regression_report(examples.labels[:, None], cosines[:, None], ("cosine",))
    return report._replace(first="spearman")
