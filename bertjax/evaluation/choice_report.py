"""How often the right candidate is chosen."""

from typing import NamedTuple

import numpy as np


class ChoiceReport(NamedTuple):
    """How choices compare with right ones.

    Attributes:
      accuracy: share of questions for which the right candidate scores most.
      reciprocal_rank: mean of 1 / the place of the right candidate.
      chance: the accuracy of a blind guess.
      questions: that were evaluated.
    """

    accuracy: float
    reciprocal_rank: float
    chance: float
    questions: int
    table: None = None
    confusion: None = None

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys: `test/accuracy`, `test/reciprocal_rank`."""
        return {f"{prefix}/accuracy": self.accuracy, f"{prefix}/reciprocal_rank": self.reciprocal_rank}

    @property
    def summary(self) -> str:
        """The rows behind the report, in words."""
        return f"{self.questions} questions of {round(1 / self.chance)} candidates"

    @property
    def headline(self) -> list[tuple[str, float]]:
        """The main metrics, the most important first."""
        return [("accuracy", self.accuracy), ("mean reciprocal rank", self.reciprocal_rank), ("chance", self.chance)]


def choice_report(labels: np.ndarray, scores: np.ndarray) -> ChoiceReport:
    """Compares choices.

    Args:
      labels: [N] the right candidate.
      scores: [N, C] of the candidates.
    """
    of_right = np.take_along_axis(scores, labels[:, None], axis=1)
    rank = 1 + (scores > of_right).sum(axis=1)
    right = scores.argmax(axis=1) == labels
    return ChoiceReport(float(right.mean()), float((1 / rank).mean()), 1 / scores.shape[1], len(labels))
