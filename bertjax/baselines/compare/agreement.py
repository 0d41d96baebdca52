"""How often two trained models predict the same on the same rows, by task."""

import numpy as np

from bertjax.baselines.runners.runner_result import RunResult

_NUMBERS = ("regression", "sentence_embedding")


def agreement(first: RunResult, second: RunResult) -> float:
    """The share of the test rows for which two models predict the same; of tokens, for tasks that label tokens.

    All labels of a row must be the same, and both ends of an answer. For tasks that learn numbers, the correlation of
    the predictions.
    """
    left, right = first.answers, second.answers
    if first.task in _NUMBERS:
        return _correlation(left.ravel(), right.ravel())
    if first.task == "multi_label":
        return float(((left > 0) == (right > 0)).all(axis=-1).mean())
    if first.task == "masked_lm":  # column 1: whether the likeliest word is the hidden one
        return float((left[:, 1] == right[:, 1]).mean())
    if first.task == "question_answering":
        return float((_spans(left, first.offsets) == _spans(right, second.offsets)).all(axis=-1).mean())
    return float((left.argmax(axis=-1) == right.argmax(axis=-1)).mean())


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    if left.std() == 0 or right.std() == 0:  # a constant has no correlation
        return float(np.array_equal(left, right))
    return float(np.corrcoef(left, right)[0, 1])


def _spans(scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """[tokens, 2] -> [N, 2], the likeliest first and last token of each row."""
    return np.stack([row.argmax(axis=0) for row in np.split(scores, offsets[1:-1])])
