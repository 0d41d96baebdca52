"""What a run is after: the metric that says which weights are best, and when to give up getting better."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bertjax.errors import ConfigError
from bertjax.training.settings.options import EarlyStopping, Evaluation

VALIDATION = "validation"  # what the names of metrics on validation rows begin with
_LESS_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "perplexity")  # the last word of a metric's name


@dataclass(frozen=True)
class Standing:
    """How a run stands to its goal.

    Attributes:
      best_step: of the best evaluation so far; 0 before the first.
      best_cost: of the goal there, the less the better.
      evaluations_since: the best one.
    """

    best_step: int = 0
    best_cost: float | None = None
    evaluations_since: int = 0


class Goal(NamedTuple):
    """A metric to bring as far as possible.

    Attributes:
      metric: its name; None stands for the task's main one on the validation rows, which comes first among them.
      mode: whether more is better; `auto` knows it by the name.
      min_improvement: what is better is so by more than this.
      patience: evaluations without an improvement after which the run stops; None: it does not.
    """

    metric: str | None = None
    mode: Literal["auto", "max", "min"] = "auto"
    min_improvement: float = 0.0
    patience: int | None = None

    def metric_of(self, row: Mapping[str, float]) -> str | None:
        """The name of the metric in a row of the history, if the row has it."""
        if self.metric is not None:
            return self.metric if self.metric in row else None
        return next((name for name in row if name.startswith(f"{VALIDATION}/")), None)

    def cost(self, row: Mapping[str, float]) -> float | None:
        """What is to become small: the metric, or its negative where more is better; None where the row lacks it."""
        metric = self.metric_of(row)
        if metric is None:
            return None
        last_word = metric.split("/")[-1].rsplit("_", maxsplit=1)[-1]
        falls = self.mode == "min" or (self.mode == "auto" and last_word in _LESS_IS_BETTER)
        return row[metric] if falls else -row[metric]

    def judge(self, standing: Standing, step: int, row: Mapping[str, float]) -> Standing:
        """The standing after one more row; the same where it lacks the metric. What is not finite is never the best.

        >>> Goal().judge(Standing(4, -0.5, 0), 8, {"validation/accuracy": 0.75})
        Standing(best_step=8, best_cost=-0.75, evaluations_since=0)
        """
        cost, best = self.cost(row), standing.best_cost
        if cost is None:
            return standing
        if math.isfinite(cost) and (best is None or best - cost > self.min_improvement):
            return Standing(step, cost, 0)
        return Standing(standing.best_step, best, standing.evaluations_since + 1)

    def given_up(self, standing: Standing) -> bool:
        """Whether the patience has run out."""
        return self.patience is not None and standing.evaluations_since >= self.patience


def choose_goal(evaluation: Evaluation, early_stopping: EarlyStopping, validates: bool) -> Goal | None:
    """The goal that the settings ask for, or None where nothing says what is best.

    Args:
      evaluating, early_stopping: the settings.
      validates: whether there are validation rows.

    Raises:
      ConfigError: something is asked for that needs validation rows.
    """
    metric = evaluation.best_metric
    wants = {
        "--final-weights best": evaluation.final_weights == "best" and metric is None,
        "--patience": early_stopping.patience is not None and metric is None,
        f"--best-metric {metric}": metric is not None and metric.startswith(f"{VALIDATION}/"),
    }
    if not validates:
        for wanted in (name for name, is_wanted in wants.items() if is_wanted):
            raise ConfigError(f"{wanted} needs --validation rows; without them there is --best-metric epoch/train_loss")
        if metric is None:
            return None
    return Goal(metric, evaluation.best_mode, early_stopping.min_improvement, early_stopping.patience)


def check_metric(goal: Goal, reported: Iterable[str]) -> None:
    """Whether a run reports what it is judged by.

    Raises:
      ConfigError: it does not; the message has the names of what it reports.
    """
    names = list(reported)
    if goal.metric is not None and goal.metric not in names:
        shown = ", ".join(name for name in names if "/class/" not in name)
        raise ConfigError(f"--best-metric: this run does not report {goal.metric!r}; there are {shown}")
