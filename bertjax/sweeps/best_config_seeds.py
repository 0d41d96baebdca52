"""After the search: the best config with several seeds, whole runs below the folder and the MLflow run of the sweep."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from bertjax.errors import UserError
from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import alone_in
from bertjax.tracking.mlflow_store import tracking_address
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.training.run.run_folder import CONFIG

logger = logging.getLogger(__name__)


def train_seeds(sweep: Sweep, ledger: Ledger, best: Trial, parent: str) -> None:
    """Trains what is missing of the seeds of the best trial's config; those that have ended stay.

    It runs where a trial would, with a trial's resources.

    Args:
      sweep: its settings.
      ledger: of the sweep.
      best: the trial.
      parent: the MLflow run of the sweep.

    Raises:
      UserError: what `finetune_seeds` raises.
    """
    import ray
    from ray.exceptions import RayTaskError

    logger.info("the best config, that of trial %d, with seeds %s", best.number, " ".join(map(str, sweep.seeds)))
    task = ray.remote(_work).options(
        num_cpus=sweep.cpus, num_gpus=sweep.gpus, resources=dict(sweep.resources), max_retries=sweep.retries
    )
    try:
        failures = ray.get(task.remote(str(ledger.folder), best.number, parent, str(Path.cwd()), tracking_address()))
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    for seed, cause in failures.items():
        logger.warning("seed %d failed: %s", seed, cause)


def _work(folder: str, number: int, parent: str, cwd: str, store: str) -> Mapping[int, str]:
    """What Ray calls, in a process of its own; returns why some seeds have no result."""
    from bertjax.training.multi.multi_seed import finetune_seeds

    if Path(cwd).is_dir():
        os.chdir(cwd)
    os.environ["MLFLOW_TRACKING_URI"] = store
    ledger = Ledger(Path(folder))
    sweep, out = ledger.sweep(), ledger.seeds_folder(number)
    config = sweep.trial_config(ledger.trials()[number].values)
    with alone_in(out):
        return finetune_seeds(
            config,
            sweep.seeds,
            out,
            stack=sweep.stack_seeds,
            resume=(out / CONFIG).exists(),
            new_tracker=lambda seeds_run: MlflowTracker(config.experiment, seeds_run or parent),
        ).failures
