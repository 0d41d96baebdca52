"""Agreement of two trained models: how often they predict the same on the same rows."""

import numpy as np

from bertjax import losses
from bertjax.baselines.runners.runner_result import RunResult
from bertjax.tasks import find_task


def agreement(first: RunResult, second: RunResult) -> float:
    """The share of the test rows for which two models predict the same; of tokens, for tasks that label tokens.

    All labels of a row must be the same, and both ends of an answer. For tasks that learn numbers, the correlation of
    the predictions.
    """
    left, right = first.answers, second.answers
    task = find_task(first.task)
    if task.loss in (losses.squared_error, losses.cosine_error):
        return _correlation(left.ravel(), right.ravel())
    if task.loss is losses.binary_cross_entropy:
        return float(((left > 0) == (right > 0)).all(axis=-1).mean())
    if task.scores is losses.masked_words:  # column 1: whether the likeliest word is the hidden one
        return float((left[:, 1] == right[:, 1]).mean())
    if task.loss is losses.span_cross_entropy:
        return float((_spans(left, first.offsets) == _spans(right, second.offsets)).all(axis=-1).mean())
    return float((left.argmax(axis=-1) == right.argmax(axis=-1)).mean())


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    if left.std() == 0 or right.std() == 0:  # a constant has no correlation
        return float(np.array_equal(left, right))
    return float(np.corrcoef(left, right)[0, 1])


def _spans(scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """[tokens, 2] -> [N, 2], the likeliest first and last token of each row."""
    return np.stack([row.argmax(axis=0) for row in np.split(scores, offsets[1:-1])])
