"""Mean and standard deviation of scores over seeds, as numbers and as a table."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.metrics.reports import is_of_whole
from bertjax.report_pages.text_table import TextTable


class Aggregate(NamedTuple):
    """Of a score over seeds.

    Attributes:
      mean: of all.
      deviation: the sample standard deviation, None for a single seed.
    """

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.deviation is None else f"{self.mean:.4f} ± {self.deviation:.4f}"


def spread(values: Sequence[float]) -> Aggregate:
    """The mean and the sample standard deviation.

    >>> str(spread([0.9, 0.92]))
    '0.9100 ± 0.0141'
    """
    return Aggregate(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def aggregates(runs: Sequence[Mapping[str, float]]) -> dict[str, Aggregate]:
    """Of every metric that all runs have, in the order of the first one."""
    shared = [name for name in runs[0] if all(name in run for run in runs)] if runs else []
    return {name: spread([run[name] for run in runs]) for name in shared}


def flat(found: Mapping[str, Aggregate]) -> dict[str, float]:
    """Numbers under flat keys, such as `test/accuracy_mean` and `test/accuracy_sd`.

    >>> flat({"test/accuracy": Aggregate(0.9, None)})
    {'test/accuracy_mean': 0.9}
    """
    values: dict[str, float] = {}
    for name, (mean, deviation) in found.items():
        values[f"{name}_mean"] = mean
        if deviation is not None:
            values[f"{name}_sd"] = deviation
    return values


def aggregate_table(
    title: str, runs: Mapping[int, Mapping[str, float]], columns: Mapping[str, Mapping[str, float]] | None = None
) -> TextTable:
    """A row a metric, with mean and standard deviation and the value of each seed.

    Args:
      title: of the table.
      runs: seed -> metrics.
      columns: further ones, title -> metric -> value. Where there are some, only what they have is shown; where there
        are none, all metrics but those of parts of the rows.
    """
    more = columns or {}
    table = TextTable(title=title)
    for column in ("metric", *more, "mean", "sd", *(f"seed {seed}" for seed in runs)):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, (mean, deviation) in aggregates(list(runs.values())).items():
        if not (all(name in values for values in more.values()) if more else is_of_whole(name)):
            continue
        numbers = [*(values[name] for values in more.values()), mean, deviation, *(run[name] for run in runs.values())]
        table.add_row(name, *("" if number is None else f"{number:.4f}" for number in numbers))
    return table
