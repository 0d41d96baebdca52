"""Imbalanced classes: class weights in the loss, or oversampling."""

from collections.abc import Mapping, Sequence

import numpy as np

from bertjax.data.encode.examples import ExampleStore
from bertjax.data.rows.label_vocabulary import RowLabels
from bertjax.errors import ConfigError

_BALANCED = "balanced"


def balance_classes(
    examples: ExampleStore, vocabulary: Sequence[str], class_weights: Sequence[str], oversample: bool, seed: int
) -> ExampleStore:
    """Training examples with classes of very different size repeated or weighted.

    Args:
      examples: one class each where a setting is on, or its probabilities [N, L]; these weigh as much as one class
        does on average, and are repeated as their most probable one.
      vocabulary: names of the classes; empty where the name of a class is its index.
      class_weights: see `parse_class_weights`; empty leaves the weights alone.
      oversample: whether to repeat examples of the smaller classes.
      seed: which examples are repeated.

    Raises:
      ConfigError: class weights that do not fit the classes.
    """
    if not oversample and not class_weights:
        return examples
    names = np.array(vocabulary or [str(i) for i in range(int(examples.labels.max()) + 1)])
    if oversample:
        ranks = np.argsort(np.argsort(names))  # the draw depends on the order of classes, which is that of their names
        classes = examples.labels if examples.labels.ndim == 1 else examples.labels.argmax(axis=1)
        examples = examples.at(oversampled(ranks[classes], seed))
    if not class_weights:
        return examples
    labels = examples.labels
    if labels.ndim == 2:
        expected = dict(zip(names.tolist(), labels.sum(axis=0, dtype=np.float64).tolist(), strict=True))
        weights = parse_class_weights(class_weights, {name: count for name, count in expected.items() if count})
        return examples.weighted(labels @ np.array([weights.get(name, 1) for name in names.tolist()], np.float32))
    weights = parse_class_weights(class_weights, RowLabels(tuple(names.tolist()), labels).counts())
    return examples.weighted(np.array([weights.get(name, 1) for name in names.tolist()], np.float32)[labels])


def parse_class_weights(settings: Sequence[str], counts: Mapping[str, float]) -> dict[str, float]:
    """The weight of each class.

    Args:
      settings: `balanced` alone (rows / (classes * rows of the class), as in scikit-learn), or `label=weight` for
        some classes; the others have weight 1.
      counts: training rows of each class, as expected where they have probabilities.

    Raises:
      ConfigError: an unknown class, a class that is named twice, or a weight that is no positive number.

    >>> parse_class_weights(["balanced"], {"a": 3, "b": 1})
    {'a': 0.6666666666666666, 'b': 2.0}
    >>> parse_class_weights(["b=3"], {"a": 1, "b": 1})
    {'a': 1.0, 'b': 3.0}
    """
    if list(settings) == [_BALANCED]:
        num_rows = sum(counts.values())
        return {label: num_rows / (len(counts) * count) for label, count in counts.items()}
    weights = dict.fromkeys(counts, 1.0)
    named: set[str] = set()
    for setting in settings:
        label, sign, number = setting.rpartition("=")
        if not sign:
            raise ConfigError(f"class_weights: {setting!r} is neither {_BALANCED!r} alone nor label=weight")
        if label not in weights or label in named:
            problem = "is named twice" if label in named else f"is no class; there are {', '.join(counts)}"
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
    """Repeats rows until each class has as many as the largest.

    Every row comes first, then whole rounds and a random share of a round of the smaller classes: within a class, the
    numbers of repeats differ by one at most.

    Args:
      labels: the class of each row, as sorted names or as indices in their order.
      seed: which rows of a class are repeated once more than others.

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
