"""How well hidden words are filled in."""

from typing import NamedTuple

import numpy as np


class MaskedWordsReport(NamedTuple):
    """How predictions of hidden tokens compare with the tokens themselves.

    Attributes:
      loss: mean negative log-likelihood of the hidden tokens, in nats.
      accuracy: share of them for which the most likely token is the right one.
      tokens: that were hidden.
      examples: they were hidden in.
    """

    loss: float
    accuracy: float
    tokens: int
    examples: int
    table: None = None
    confusion: None = None

    @property
    def perplexity(self) -> float:
        """How many equally likely tokens the model seems to choose from."""
        return float(np.exp(self.loss))

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys: `test/loss`, `test/perplexity`, `test/accuracy`."""
        return {
            f"{prefix}/loss": self.loss,
            f"{prefix}/perplexity": self.perplexity,
            f"{prefix}/accuracy": self.accuracy,
        }

    @property
    def summary(self) -> str:
        """The rows behind the report, in words."""
        return f"{self.tokens} hidden tokens in {self.examples} texts"

    @property
    def headline(self) -> list[tuple[str, float]]:
        """The main metrics, the most important first."""
        return [("loss", self.loss), ("perplexity", self.perplexity), ("accuracy", self.accuracy)]
