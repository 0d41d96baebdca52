"""Weights of rows in blocks that fit in the memory, and metrics that are means over rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.metrics.reports import WeightedMetrics, with_parts

_CELLS = 2**18  # weights of a block, 2 MiB, which stay in the cache of a core


class WeightedScores(NamedTuple):
    """Metrics of a block of weightings.

    Attributes:
      metrics: of all rows -> [r].
      parts: of each part, metric -> [r].
    """

    metrics: Mapping[str, np.ndarray]
    parts: Mapping[str, Mapping[str, np.ndarray]] = {}


@dataclass(frozen=True)
class InBlocks:
    """A `WeightedMetrics` that takes any number of weightings, a block of them at a time.

    Attributes:
      of_block: weights [N, r], float64 -> metrics. It may divide by zero; where no row counts it is not asked.
    """

    of_block: Callable[[np.ndarray], WeightedScores]

    def __call__(self, weights: np.ndarray, parts: bool = False) -> dict[str, np.ndarray]:
        """See `WeightedMetrics`."""
        size = max(1, _CELLS // max(1, weights.shape[1]))
        blocks = [self._block(weights[first : first + size], parts) for first in range(0, max(1, len(weights)), size)]
        return {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}

    def _block(self, weights: np.ndarray, parts: bool) -> dict[str, np.ndarray]:
        block = np.ascontiguousarray(weights.T, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            metrics, of_parts = self.of_block(block)
        counts = block.any(axis=0)
        values = with_parts(metrics, of_parts if parts else {})
        return {key: np.where(counts, value, np.nan) for key, value in values.items()}


@dataclass(frozen=True)
class Together:
    """A `WeightedMetrics` of several kinds.

    Attributes:
      kinds: what the keys of a kind begin with, such as `fallback/` -> the metrics.
    """

    kinds: Mapping[str, WeightedMetrics]

    def __call__(self, weights: np.ndarray, parts: bool = False) -> dict[str, np.ndarray]:
        """See `WeightedMetrics`."""
        return {f"{kind}{key}": values for kind, of in self.kinds.items() for key, values in of(weights, parts).items()}


@dataclass(frozen=True)
class RowMeans:
    """Metrics that are means of a number of each row.

    Attributes:
      values: metric -> [N].
      parts: part of the rows -> [N] whether a row is in it.
    """

    values: Mapping[str, np.ndarray]
    parts: Mapping[str, np.ndarray] | None = None

    def __call__(self, weights: np.ndarray) -> WeightedScores:
        """The means of a block."""
        parts = {part: self._means(weights * inside[:, None]) for part, inside in (self.parts or {}).items()}
        return WeightedScores(self._means(weights), parts)

    def _means(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=0)
        return {key: values @ weights / total for key, values in self.values.items()}


def row_of_examples(examples: Examples) -> np.ndarray:
    """[examples] the row of each, where a row may be several."""
    return np.arange(examples.num_examples) if examples.row_of is None else examples.row_of


def sums_by_row(values: np.ndarray, row_of: np.ndarray, num_rows: int) -> np.ndarray:
    """[num_rows] the sum of the values of each row."""
    return np.bincount(row_of, values, minlength=num_rows)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient, 0 where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(denominator)), where=denominator > 0)
