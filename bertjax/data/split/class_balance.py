"""Classes of very different size: weights for the loss, or rows repeated."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bertjax.errors import ConfigError

BALANCED = "balanced"


def class_weights(settings: Sequence[str], labels: Sequence[str], vocabulary: Sequence[str]) -> dict[str, float]:
    """The weight of each class.

    Args:
      settings: `balanced` alone (rows / (classes * rows of the class), as scikit-learn has it), or `label=weight` for
        some classes, the others weighing 1.
      labels: of the training rows.
      vocabulary: all classes.

    Raises:
      ConfigError: a class that is not there or is named twice, or a weight that is no positive number.

    >>> class_weights(["balanced"], ["a", "a", "a", "b"], ["a", "b"])
    {'a': 0.6666666666666666, 'b': 2.0}
    >>> class_weights(["b=3"], ["a", "b"], ["a", "b"])
    {'a': 1.0, 'b': 3.0}
    """
    if list(settings) == [BALANCED]:
        counts = Counter(labels)
        return {label: len(labels) / (len(vocabulary) * counts[label]) for label in vocabulary}
    weights = dict.fromkeys(vocabulary, 1.0)
    named: set[str] = set()
    for setting in settings:
        label, sign, number = setting.rpartition("=")
        if not sign:
            raise ConfigError(f"class_weights: {setting!r} is neither {BALANCED!r} alone nor label=weight")
        if label not in weights or label in named:
            problem = "is named twice" if label in named else f"is no class; there are {', '.join(vocabulary)}"
            raise ConfigError(f"class_weights: {label!r} {problem}")
        weights[label] = _positive(setting, number)
        named.add(label)
    return weights


def _positive(setting: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise ConfigError(f"class_weights: {setting!r} needs a positive number after the equals sign")
    return weight


def oversampled(labels: Sequence[str] | np.ndarray, seed: int) -> np.ndarray:
    """Rows so that each class has as many as the largest: every row, then whole rounds and a random share of a round of
    the smaller classes, so that no row comes more than once oftener than another of its class.

    Args:
      labels: one a row, or numbers in the order of their names.
      seed: of the share.

    Returns:
      [M] indices of rows.
    """
    rng = np.random.default_rng(seed)
    _, codes = np.unique(np.asarray(labels), return_inverse=True)
    rows_of = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    most = max(map(len, rows_of))
    indices = [np.arange(len(codes))]
    for rows in rows_of:
        rounds, rest = divmod(most - len(rows), len(rows))
        indices += [np.tile(rows, rounds), rng.permutation(rows)[:rest]]
    return np.concatenate(indices)
