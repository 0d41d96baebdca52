"""The metric that decides which checkpoint is best, and early stopping by it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from bertjax.errors import ConfigError
from bertjax.metrics.reports import better_when
from bertjax.training.settings.options import EarlyStopping, Evaluation

VALIDATION = "validation"  # prefix of the metrics on validation rows


@dataclass(frozen=True)
class BestSoFar:
    """The best evaluation of a run so far.

    Attributes:
      best_step: step of the best evaluation; 0 before the first.
      best_cost: its cost (see `BestMetric.cost`); lower is better.
      evaluations_since: number of evaluations after it.
    """

    best_step: int = 0
    best_cost: float | None = None
    evaluations_since: int = 0


class BestMetric(NamedTuple):
    """The metric by which evaluations are compared, and how long a run waits for an improvement.

    Attributes:
      metric: its name; None for the task's main metric on the validation rows, the first of them.
      mode: whether it is to be maximised; `auto` decides by the name.
      min_improvement: a smaller difference is no improvement.
      patience: evaluations without improvement after which the run stops; None for never.
    """

    metric: str | None = None
    mode: Literal["auto", "max", "min"] = "auto"
    min_improvement: float = 0.0
    patience: int | None = None

    def metric_of(self, row: Mapping[str, float]) -> str | None:
        """The name of the metric in a row of the history; None where the row lacks it."""
        if self.metric is not None:
            return self.metric if self.metric in row else None
        return next((name for name in row if name.startswith(f"{VALIDATION}/")), None)

    def cost(self, row: Mapping[str, float]) -> float | None:
        """The metric, or its negative where more is better; None where the row lacks it."""
        metric = self.metric_of(row)
        if metric is None:
            return None
        falls = self.mode == "min" or (self.mode == "auto" and better_when(metric) == "min")
        return row[metric] if falls else -row[metric]

    def update(self, best: BestSoFar, step: int, row: Mapping[str, float]) -> BestSoFar:
        """The best after one more row; the same where the row lacks the metric. A cost that is not finite never wins.

        >>> BestMetric().update(BestSoFar(4, -0.5, 0), 8, {"validation/accuracy": 0.75})
        BestSoFar(best_step=8, best_cost=-0.75, evaluations_since=0)
        """
        cost = self.cost(row)
        if cost is None:
            return best
        if math.isfinite(cost) and (best.best_cost is None or best.best_cost - cost > self.min_improvement):
            return BestSoFar(step, cost, 0)
        return replace(best, evaluations_since=best.evaluations_since + 1)

    def out_of_patience(self, best: BestSoFar) -> bool:
        """Whether the run stops."""
        return self.patience is not None and best.evaluations_since >= self.patience


TRAINING_LOSS = BestMetric("epoch/train_loss")


def choose_best_metric(evaluation: Evaluation, early_stopping: EarlyStopping, validates: bool) -> BestMetric | None:
    """The metric that the settings ask for, or None if there is nothing to compare evaluations by.

    Raises:
      ConfigError: a setting needs validation rows, and there are none.
    """
    metric = evaluation.best_metric
    needs_validation = {
        "--final-weights best": evaluation.final_weights == "best" and metric is None,
        "--patience": early_stopping.patience is not None and metric is None,
        f"--best-metric {metric}": metric is not None and metric.startswith(f"{VALIDATION}/"),
    }
    if not validates:
        for flag in (flag for flag, needs_it in needs_validation.items() if needs_it):
            raise ConfigError(f"{flag} needs --validation rows; without them there is --best-metric epoch/train_loss")
        if metric is None:
            return None
    return BestMetric(metric, evaluation.best_mode, early_stopping.min_improvement, early_stopping.patience)


def check_metric(best_metric: BestMetric, reported: Iterable[str]) -> None:
    """Checks that a run reports the metric.

    Raises:
      ConfigError: it does not; the message has the names of those that it reports.
    """
    names = list(reported)
    if best_metric.metric is not None and best_metric.metric not in names:
        shown = ", ".join(name for name in names if "/class/" not in name)
        raise ConfigError(f"--best-metric: this run does not report {best_metric.metric!r}; there are {shown}")
