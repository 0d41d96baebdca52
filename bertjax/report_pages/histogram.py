"""Histograms with round bounds."""

from typing import NamedTuple

import numpy as np

_BINS = 24


class Histogram(NamedTuple):
    """Counts of numbers between bounds; a number on a bound counts in the bin above it."""

    bounds: tuple[float, ...]  # one more than counts, ascending
    counts: tuple[int, ...]


def histogram(numbers: np.ndarray, bins: int = _BINS) -> Histogram:
    """The histogram of some numbers, of which there is one at least.

    The bins have a width of 1, 2, 2.5 or 5 times a power of ten, and whole numbers one of 1 or more.

    >>> histogram(np.array([1, 2, 2, 9]), bins=4)
    Histogram(bounds=(0.0, 2.0, 4.0, 6.0, 8.0, 10.0), counts=(1, 2, 0, 0, 1))
    """
    low, high = float(numbers.min()), float(numbers.max())
    width = _round_up(high / bins - low / bins or 1.0)
    if np.issubdtype(numbers.dtype, np.integer) and width < 5:
        width = float(np.ceil(width))
    first, last = np.floor(low / width), np.floor(high / width) + 1
    bounds = np.arange(first, last + 1) * width
    counts, _ = np.histogram(numbers, bounds)
    return Histogram(tuple(bounds.tolist()), tuple(counts.tolist()))


def _round_up(width: float) -> float:
    """The next width of 1, 2, 2.5, 5 or 10 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(width))
    return float(next(step for step in (1, 2, 2.5, 5, 10) if step * power >= width * (1 - 1e-9)) * power)
