"""The best config of a sweep with several seeds: whole runs below the sweep's folder and its MLflow run."""

import logging
from collections.abc import Mapping
from pathlib import Path

from bertjax.storage.folder_lock import locked_folder
from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.worker_task import run_in_worker
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.training.run.run_folder import CONFIG, IfExists

logger = logging.getLogger(__name__)


def train_seeds(sweep: Sweep, ledger: Ledger, best: Trial, parent_run_id: str, allow_changed: bool) -> None:
    """Trains the best trial's config with the seeds that have not ended yet, in a Ray task with a trial's resources.

    Raises:
      UserError: see `finetune_seeds`.
    """
    logger.info("the best config, that of trial %d, with seeds %s", best.number, " ".join(map(str, sweep.seeds)))
    failures = run_in_worker(sweep, _finetune_seeds, str(ledger.folder), best.number, parent_run_id, allow_changed)
    for seed, cause in failures.items():
        logger.warning("seed %d failed: %s", seed, cause)


def _finetune_seeds(folder: str, number: int, parent_run_id: str, allow_changed: bool) -> Mapping[int, str]:
    """Runs in a Ray worker process; returns why seeds have no result, by seed."""
    from bertjax.training.multi.multi_seed import finetune_seeds

    ledger = Ledger(Path(folder))
    sweep, out = ledger.sweep(), ledger.seeds_folder(number)
    config = sweep.trial_config(ledger.trials()[number].values)
    resume: IfExists = "resume_changed" if allow_changed else "resume"
    with locked_folder(out, wait=True):  # the process of a killed driver may still be at work
        return finetune_seeds(
            config,
            sweep.seeds,
            out,
            stack=sweep.stack_seeds,
            if_exists=resume if (out / CONFIG).exists() else "error",
            new_tracker=lambda seeds_run: tracker_of(config.tracking, config.experiment, seeds_run or parent_run_id),
        ).failures
