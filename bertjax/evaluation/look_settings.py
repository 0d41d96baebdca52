"""The settings of intervals and of explained answers. It imports little, as flags are made of it."""

from dataclasses import dataclass

from bertjax.settings import Count, CountFromZero, InnerShare, Seed

EXPLANATIONS = "explanations.jsonl"


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


@dataclass(frozen=True)
class ExplainedMistakes:
    """Which answers are explained."""

    explain: CountFromZero = 0
    """Explain so many rows of each kind in the report: right and wrong answers, those that the model is most and least
    sure of; rows of different classes first."""
