"""Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365): a number, dealt out to the words that make it.

The line from the embeddings of a baseline to those of the text is walked, and the slope of the number along it is added
up for each token. The sum over all tokens is the difference between text and baseline, up to how exactly the integral
is computed: by Gauss and Legendre's rule with twice as many points until the difference is met.

The baseline is the text with [MASK] for every word piece. The network has learned to read that as "some word", so the
line stays where it knows its way; a row of [PAD] it has never attended to. It also makes the weights comparable with
those of methods that hide words. [CLS], [SEP], positions and segments are those of the text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.inference.explanations.explained_network import ExplainedNetwork, Question

_FIRST_POINTS, _MOST_POINTS = 14, 448
_TOLERANCE = 0.01  # of a difference; of one below 1 absolute


class IntegratedGradients(NamedTuple):
    """The result for a text.

    Attributes:
      of_tokens: [T] what each token adds, float64.
      score, baseline_score: the number of the text, and of the baseline.
      points: at which the slope was computed.
    """

    of_tokens: np.ndarray
    score: float
    baseline_score: float
    points: int

    @property
    def gap(self) -> float:
        """How far the sum over the tokens is from the difference of the numbers."""
        return float(abs(self.of_tokens.sum() - (self.score - self.baseline_score)))

    @property
    def is_exact(self) -> bool:
        """Whether the gap is within the tolerance."""
        return self.gap <= _TOLERANCE * max(1.0, abs(self.score - self.baseline_score))


def integrate(
    network: ExplainedNetwork, questions: Sequence[Question], baselines: Sequence[np.ndarray]
) -> list[IntegratedGradients]:
    """Integrates the slope of each number from its baseline to its text.

    Args:
      network: is asked.
      questions: of the texts.
      baselines: token ids of each, as many as the text's.
    """
    results: dict[int, IntegratedGradients] = {}
    points = _FIRST_POINTS
    while points <= _MOST_POINTS:
        for i in [i for i in range(len(questions)) if i not in results or not results[i].is_exact]:
            results[i] = _integral(network, questions[i], baselines[i], points)
        points *= 2
    return [results[i] for i in range(len(questions))]


def _integral(network: ExplainedNetwork, question: Question, baseline: np.ndarray, points: int) -> IntegratedGradients:
    nodes, weights = np.polynomial.legendre.leggauss(points)
    shares = [0.0, 1.0, *((nodes + 1) / 2)]  # the ends give the two numbers themselves
    scores, slopes = network.gradients([question] * len(shares), [baseline] * len(shares), shares)
    of_tokens = np.einsum("p,pt->t", weights / 2, np.stack(slopes[2:]).astype(np.float64))
    return IntegratedGradients(of_tokens, float(scores[1]), float(scores[0]), points)
