"""The best config of a sweep with several seeds: whole runs below the sweep's folder and its MLflow run."""

import logging
from collections.abc import Mapping
from pathlib import Path

from bertjax.errors import UserError
from bertjax.storage.folder_lock import locked_folder
from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import enter_driver_settings
from bertjax.tracking.mlflow_store import tracking_address
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.training.run.run_folder import CONFIG

logger = logging.getLogger(__name__)


def train_seeds(sweep: Sweep, ledger: Ledger, best: Trial, parent_run_id: str) -> None:
    """Trains the best trial's config with the seeds that have not ended yet, in a Ray task with a trial's resources.

    Raises:
      UserError: see `finetune_seeds`.
    """
    import ray
    from ray.exceptions import RayTaskError

    logger.info("the best config, that of trial %d, with seeds %s", best.number, " ".join(map(str, sweep.seeds)))
    task = ray.remote(_finetune_seeds).options(
        num_cpus=sweep.cpus, num_gpus=sweep.gpus, resources=dict(sweep.resources), max_retries=sweep.retries
    )
    try:
        failures = ray.get(
            task.remote(str(ledger.folder), best.number, parent_run_id, str(Path.cwd()), tracking_address())
        )
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    for seed, cause in failures.items():
        logger.warning("seed %d failed: %s", seed, cause)


def _finetune_seeds(folder: str, number: int, parent_run_id: str, cwd: str, store: str) -> Mapping[int, str]:
    """Runs in a Ray worker process; returns why seeds have no result, by seed."""
    from bertjax.training.multi.multi_seed import finetune_seeds

    enter_driver_settings(cwd, store)
    ledger = Ledger(Path(folder))
    sweep, out = ledger.sweep(), ledger.seeds_folder(number)
    config = sweep.trial_config(ledger.trials()[number].values)
    with locked_folder(out, wait=True):  # the process of a killed driver may still be at work
        return finetune_seeds(
            config,
            sweep.seeds,
            out,
            stack=sweep.stack_seeds,
            if_exists="resume" if (out / CONFIG).exists() else "error",
            new_tracker=lambda seeds_run: MlflowTracker(config.experiment, seeds_run or parent_run_id),
        ).failures
