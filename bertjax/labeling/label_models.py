"""Votes of labelling functions into one probability a class: majority vote, and Snorkel's LabelModel.

The LabelModel (Ratner et al. 2019, "Training Complex Models with Multi-Task Weak Supervision") learns from how
functions agree how likely each is to vote for each class, given the true one.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from bertjax.errors import ConfigError
from bertjax.labeling.apply_functions import Votes

FEWEST_FUNCTIONS = 3  # that a LabelModel can be learned from
_EPOCHS, _LEARNING_RATE = 500, 0.01


def majority_vote(votes: Votes, balance: np.ndarray) -> np.ndarray:
    """The share of the votes for each class, [N, L] float64 of sum 1; a row without votes has the class balance."""
    counts = np.zeros((len(votes.hard), len(votes.labels)))
    for function in range(len(votes.functions)):
        counts += votes.shares(function)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1e-12), balance)


class LabelModel(NamedTuple):
    """What was learned of functions.

    Attributes:
      functions: their names.
      log_likelihoods: [F, L, L] the logarithm of how likely a function votes for a class, given the true class.
      balance: [L] the share of each class.
    """

    functions: tuple[str, ...]
    log_likelihoods: np.ndarray
    balance: np.ndarray

    def probabilities(self, votes: Votes) -> np.ndarray:
        """The probability of each class, [N, L] float64 of sum 1; a row without votes has the class balance.

        Abstentions say nothing, as in Snorkel's `predict_proba`, which knows hard votes only: of a vote of
        probabilities, each class counts as much as it is probable.
        """
        scores = np.tile(np.log(self.balance), (len(votes.hard), 1))
        for name, likelihoods in zip(self.functions, self.log_likelihoods, strict=True):
            scores += votes.shares(votes.functions.index(name)) @ likelihoods
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)


def voting(votes: Votes) -> list[int]:
    """The functions that vote at all."""
    return np.flatnonzero((votes.hard >= 0).any(axis=0)).tolist()


def fit_label_model(votes: Votes, balance: np.ndarray, seed: int) -> LabelModel:
    """Learns from the votes of three functions or more, without a label; the same seed gives the same model.

    Args:
      votes: of functions that vote at all, see `voting`.
      balance: [L] the share of each class.
      seed: of Snorkel.

    Raises:
      ConfigError: Snorkel is not installed.
    """
    try:
        from snorkel.labeling.model import LabelModel as SnorkelModel
    except ModuleNotFoundError:
        raise ConfigError(
            "the label model needs Snorkel: pip install 'bertjax[labeling]', or take --method majority"
        ) from None

    num_functions, num_labels = len(votes.functions), len(votes.labels)
    snorkel = SnorkelModel(cardinality=num_labels, verbose=False)
    with _generators_kept():
        snorkel.fit(
            votes.hard,
            class_balance=balance.tolist(),
            n_epochs=_EPOCHS,
            lr=_LEARNING_RATE,
            seed=seed,
            progress_bar=False,
        )
    likelihoods = snorkel.mu.detach().numpy().astype(np.float64)  # [F L, L]
    return LabelModel(votes.functions, np.log(likelihoods).reshape(num_functions, num_labels, num_labels), balance)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Puts the generators of the process back as they were: Snorkel seeds them."""
    import torch

    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        yield
    random.setstate(of_python)
    np.random.set_state(of_numpy)  # noqa: NPY002
