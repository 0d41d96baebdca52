"""The flags of the bootstrap; apart, so that `bertjax evaluate --help` need not load a model's code."""

from dataclasses import dataclass

from bertjax.settings import Count, InnerShare, Seed


@dataclass(frozen=True)
class IntervalSettings:
    """Confidence intervals of the metrics."""

    intervals: bool = False
    """Give every metric, also by class, its confidence interval: a percentile bootstrap over the rows."""

    confidence: InnerShare = 0.95
    """Share of the bootstrap's draws that an interval covers; for --intervals and --against."""

    draws: Count = 1000
    """Samples that the bootstrap draws of the rows."""

    bootstrap_seed: Seed = 0
    """Seed of these draws: the same numbers for the same seed."""
