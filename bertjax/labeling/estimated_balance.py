"""The class balance, which the label model takes as known: uniform, given or estimated.

The estimate is that of a latent class model (Dawid and Skene 1979, whose observers may abstain here): given a row's
class, functions vote and abstain independently. Expectation maximisation begins with the shares of the votes.
"""

from collections.abc import Sequence

import numpy as np

from bertjax.errors import ConfigError
from bertjax.labeling.apply_functions import ABSTAINS, Votes

UNIFORM, ESTIMATED = "uniform", "estimated"
_ITERATIONS = 200
_PRIOR_ROWS = 0.5  # rows of the average class that each class is thought to have had before: no estimate is 0
_ROUNDING = 0.01


def class_balance(setting: Sequence[str], votes: Votes) -> np.ndarray:
    """The share of each class, [L] float64 of sum 1.

    Args:
      setting: `uniform` or `estimated` alone, or `label=share` for every class.
      votes: of all functions.

    Raises:
      ConfigError: a class that is unknown, missing or named twice, or shares that are not positive or not of sum 1.
    """
    labels = votes.labels
    if list(setting) == [UNIFORM]:
        return np.full(len(labels), 1 / len(labels))
    if list(setting) == [ESTIMATED]:
        return _estimated(votes)
    shares: dict[str, float] = {}
    for part in setting:
        label, sign, number = part.rpartition("=")
        if not sign:
            raise ConfigError(f"--balance: {part!r} is neither {UNIFORM}, {ESTIMATED} nor label=share")
        if label not in labels or label in shares:
            problem = "is named twice" if label in shares else f"is no class; there are {', '.join(labels)}"
            raise ConfigError(f"--balance: {label!r} {problem}")
        shares[label] = _positive(part, number)
    if missing := [label for label in labels if label not in shares]:
        raise ConfigError(f"--balance has no share of {', '.join(map(repr, missing))}; give one for each class")
    total = sum(shares.values())
    if abs(total - 1) > _ROUNDING:
        raise ConfigError(f"--balance has shares of sum {total:g}; their sum must be 1")
    return np.array([shares[label] for label in labels]) / total


def _positive(part: str, number: str) -> float:
    try:
        share = float(number)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"--balance: {part!r} needs a share after the equals sign, above 0 and at most 1")
    return share


def _estimated(votes: Votes) -> np.ndarray:
    num_labels = len(votes.labels)
    said = [np.column_stack([votes.shares(f), votes.hard[:, f] == ABSTAINS]) for f in range(len(votes.functions))]
    outcomes = np.stack(said, axis=1).astype(np.float64)  # [N, F, L + 1], the last for an abstention
    for_class = outcomes[:, :, :-1].sum(axis=1) + _PRIOR_ROWS / num_labels  # [N, L]
    classes = for_class / for_class.sum(axis=1, keepdims=True)
    covered = votes.counts > 0
    classes[~covered] = classes[covered].mean(axis=0) if covered.any() else 1 / num_labels
    average = outcomes.mean(axis=0)  # [F, L + 1]
    flat = outcomes.reshape(len(outcomes), -1)
    for _ in range(_ITERATIONS):
        balance = (classes.sum(axis=0) + _PRIOR_ROWS) / (len(classes) + _PRIOR_ROWS * num_labels)
        counts = (classes.T @ flat).reshape(num_labels, *average.shape) + _PRIOR_ROWS * average
        shares = counts / counts.sum(axis=2, keepdims=True)  # [L, F, L + 1]
        scores = np.log(balance) + flat @ np.log(np.maximum(shares, 1e-12)).reshape(num_labels, -1).T
        classes = np.exp(scores - scores.max(axis=1, keepdims=True))
        classes /= classes.sum(axis=1, keepdims=True)
    balance = classes.sum(axis=0) + _PRIOR_ROWS
    return balance / balance.sum()
