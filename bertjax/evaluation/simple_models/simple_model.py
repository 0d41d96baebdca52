"""`Problem`: what a simple model learns and answers. A simple model is a function from it to scores."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.rows.labelled_rows import Rows
from bertjax.evaluation.simple_models.beside_settings import SimpleModels
from bertjax.metrics.evaluators import NEXT_SENTENCE_NAMES
from bertjax.tasks.task import Target

_LEAST = 1e-6  # probability of what never occurred


class Labelled(NamedTuple):
    """Labelled rows, as texts and as encoded labels."""

    rows: Rows
    examples: Examples


class Problem(NamedTuple):
    """Rows to learn from, and rows to answer.

    Attributes:
      target: what a row is labelled with.
      names: of the labels, in index order; empty where they have none.
      train: rows to learn from.
      test: rows to answer; their labels are not looked at.
      settings: what the models read.
      checkpoint: of the frozen embeddings.
    """

    target: Target
    names: tuple[str, ...]
    train: Labelled
    test: Labelled
    settings: SimpleModels
    checkpoint: str

    @property
    def num_classes(self) -> int:
        """L, where a row has one class."""
        return len(self.names) or len(NEXT_SENTENCE_NAMES)

    @property
    def labels(self) -> np.ndarray:
        """Of the training rows: [N] class indices (of the most probable one, where they are probabilities); [N, L]
        numbers, or 0 and 1."""
        labels = self.train.examples.labels
        return labels.argmax(axis=1) if self.target == "class" and labels.ndim == 2 else labels

    @property
    def num_test(self) -> int:
        """Rows to answer."""
        return len(self.test.rows.texts)


Scores = Callable[[Problem], np.ndarray]
"""Learns from the training rows -> the scores of the test rows, as the network's (`Task.scores`), float32."""


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Scores whose softmax are these probabilities of classes, but for those that are next to nothing."""
    return np.log(np.maximum(probabilities, _LEAST)).astype(np.float32)


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Scores whose logistic function are these probabilities of labels, but for those next to 0 and 1."""
    inside = np.clip(probabilities, _LEAST, 1 - _LEAST)
    return np.log(inside / (1 - inside)).astype(np.float32)
