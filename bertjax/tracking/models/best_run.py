"""The best run of an MLflow experiment, and the address `runs:/ID/model` of a run's model wherever one is named."""

import logging
import math
import re
import sys
from pathlib import Path
from typing import Literal

from bertjax.errors import AssetError, ConfigError
from bertjax.metrics.reports import better_when, is_of_whole
from bertjax.settings import nearest
from bertjax.tracking.mlflow_store import MlflowStore, tracking_address
from bertjax.tracking.models.model_registry import download_model

logger = logging.getLogger(__name__)

_INFINITE = sys.float_info.max  # what MLflow stores in its place
MODEL = "model"  # the artifact of a run with its model: the name of its folder in the run's


def find_best_model(experiment: str, metric: str, mode: Literal["max", "min"] | None = None) -> str:
    """The model of the best finished run of an experiment, in the store at `MLFLOW_TRACKING_URI`.

    A run counts by the last value of the metric, which is that of the weights that it saved; where several are equal,
    the oldest. Runs without a model, such as those that hold the means of several seeds, do not count.

    Args:
      experiment: MLflow's name of it.
      metric: MLflow's name of it, such as `validation/f1_macro`.
      mode: whether more or less is better; default: as the metric's name says.

    Returns:
      Its address, `runs:/ID/model`.

    Raises:
      ConfigError: MLflow does not answer, has no such experiment, no finished run in it with the metric or with a
        model, or nothing says which value is better.
    """
    store = MlflowStore(tracking_address())
    store.connect_to_existing()
    runs = store.finished_runs(experiment)
    if not runs:
        raise ConfigError(f"MLflow's experiment {experiment!r} has no finished run")
    values = {run.info.run_id: run.data.metrics[metric] for run in runs if metric in run.data.metrics}
    if not values:
        known = sorted({name for run in runs for name in run.data.metrics if not name.startswith("system/")})
        shown = list(filter(is_of_whole, known)) if is_of_whole(metric) else known
        raise ConfigError(f"no finished run of {experiment!r} has a metric {metric!r}; {nearest(metric, shown)}")
    mode = mode or better_when(metric)
    if mode is None:
        raise ConfigError(f"the name {metric!r} does not say whether more is better; give --metric-mode max or min")
    ranked = [run for run in runs if abs(values.get(run.info.run_id, math.nan)) < _INFINITE]
    ranked.sort(key=lambda run: values[run.info.run_id], reverse=mode == "max")
    best = next((run for run in ranked if store.has_artifact(run.info.run_id, MODEL)), None)
    if best is None:
        raise ConfigError(
            f"no finished run of {experiment!r} with a finite {metric} has a model; a run of bertjax finetune has one"
        )
    logger.info(
        "the best of %d runs of %r: %s %.6g, run %s (%s)",
        len(ranked), experiment, metric, values[best.info.run_id], best.info.run_name, best.info.run_id,
    )  # fmt: skip
    return f"runs:/{best.info.run_id}/{MODEL}"


def fetch_run_model(address: str) -> Path:
    """The local folder of a run's model, downloaded unless an earlier call has done so.

    Args:
      address: `runs:/ID/model`.

    Raises:
      AssetError: there is no such model.
      ConfigError: MLflow does not answer, or knows no such run.
    """
    parts = re.fullmatch(rf"runs:/(?P<run>\w+)/{MODEL}", address)
    if parts is None:
        raise AssetError(f"{address} is no model of a run; write runs:/ID/{MODEL}")
    store = MlflowStore(tracking_address())
    store.connect_to_existing()
    run = store.find_run(parts["run"])
    if not store.has_artifact(parts["run"], MODEL):
        raise AssetError(f"MLflow's run {parts['run']} ({run.info.run_name}) has no model in {run.info.artifact_uri}")
    return download_model(store, address, f"{run.info.artifact_uri}/{MODEL}", parts["run"])
