"""Judges: one a task, from what the network says of some examples to a report."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.evaluation.answer_report import answer_report
from bertjax.evaluation.choice_report import choice_report
from bertjax.evaluation.classification_report import classification_report, multi_label_report
from bertjax.evaluation.masked_lm_report import MaskedWordsReport
from bertjax.evaluation.regression_report import regression_report
from bertjax.evaluation.reports import Report
from bertjax.evaluation.tag_report import tag_report

Judge = Callable[[np.ndarray, Examples, Sequence[str]], Report]
"""What the network says (see `Task.reading`), one entry an example or a token; the examples; the label names."""


def _classes(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    return classification_report(examples.labels, logits.argmax(axis=-1), names)


def _several_classes(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    return multi_label_report(examples.labels, logits > 0, names)


def _numbers(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    return regression_report(examples.labels, logits, names)


def _masked_words(scores: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    hidden = scores[examples.labels != UNLABELLED].astype(np.float64)
    loss, accuracy = hidden.mean(axis=0)
    return MaskedWordsReport(float(loss), float(accuracy), len(hidden), examples.num_examples)


def _choices(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    return choice_report(examples.labels, logits)


def _follows(logits: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    return classification_report(examples.labels, logits.argmax(axis=-1), ("follows", "does not follow"))


def _likeness(cosines: np.ndarray, examples: Examples, names: Sequence[str]) -> Report:
    report = regression_report(examples.labels[:, None], cosines[:, None], ("cosine",))
    return report._replace(first="spearman")


EVALUATORS: Mapping[str, Judge] = {
    "classification": _classes,
    "multi_label": _several_classes,
    "regression": _numbers,
    "token_classification": tag_report,
    "question_answering": answer_report,
    "multiple_choice": _choices,
    "next_sentence": _follows,
    "masked_lm": _masked_words,
    "sentence_embedding": _likeness,
}
