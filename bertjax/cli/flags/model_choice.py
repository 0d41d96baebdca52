"""The flags of `--model best`: the model of the best run of an MLflow experiment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bertjax.errors import ConfigError

BEST = "best"


@dataclass(frozen=True)
class BestRun:
    """Which run is the best, for `--model best`."""

    experiment: str | None = None
    """With --model best: the MLflow experiment whose best run's model it is (in the store at MLFLOW_TRACKING_URI)."""

    metric: str | None = None
    """With --model best: the metric that the run is the best by, such as validation/f1_macro."""

    metric_mode: Literal["max", "min"] | None = None
    """With --model best: whether more or less of the metric is better; default: as its name says."""


def chosen_model(model: str, best_run: BestRun) -> str:
    """The name of a model, as `load_model` takes it; that of the best run is looked up.

    Args:
      model: the value of `--model`.
      best_run: the flags beside it.

    Raises:
      ConfigError: the flags contradict each other, or there is no such run.
    """
    is_asked = best_run != BestRun()
    if model != BEST or (not is_asked and Path(model).is_dir()):
        if is_asked:
            raise ConfigError(f"--experiment and --metric choose the run of --model {BEST}; --model is {model}")
        return model
    if best_run.experiment is None or best_run.metric is None:
        raise ConfigError(f"--model {BEST} needs --experiment and --metric, such as --metric validation/f1_macro")
    from bertjax.tracking.models.best_run import find_best_model

    return find_best_model(best_run.experiment, best_run.metric, best_run.metric_mode)
