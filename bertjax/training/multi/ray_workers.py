"""Multi-host training: one run on the workers of a Ray cluster, restarted from its last checkpoint if a worker dies.

Every worker reads the same data and makes the same batches. `jax.distributed` joins their devices, and each worker
feeds the rows of its own. Only the first one writes the folder and tracks the run. Ray Train places the workers,
restarts them, and gives up after `max_failures`.
"""

import logging
import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bertjax import ray_cluster
from bertjax.errors import ConfigError, UserError, WorkerError
from bertjax.settings import flatten
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.tracking.mlflow_store import tracking_address
from bertjax.training.run import run_folder
from bertjax.training.run.beginning import held_folder, recover
from bertjax.training.run.finetuning import finetune_in
from bertjax.training.run.run_folder import IfExists
from bertjax.training.run.training_session import FineTuneResult, RunContext
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Workers

_MISTAKE, _STARTED, _BEGUN = "mistake", "started", "begun"  # notes: of a user's mistake, the workers, the run


class _Job(NamedTuple):
    """The job of a worker, in the driver's working directory; `notes` is a folder that all share during the run."""

    config: FineTuneConfig
    folder: Path
    if_exists: IfExists
    command: str
    directory: Path
    notes: Path


def finetune_on_workers(
    config: FineTuneConfig,
    out: str | Path,
    workers: Workers,
    *,
    if_exists: IfExists = "error",
    command: str | None = None,
) -> FineTuneResult:
    """`finetune` on several workers: the same folder, one MLflow run, the same numbers but for rounding.

    Runs on the Ray cluster of this process, or on the one at `workers.address`.

    Args:
      config: the settings of the run.
      out: folder of the run, on a file system that all workers share.
      workers: their number and resources.
      if_exists, command: as for `finetune`.

    Raises:
      UserError: what `finetune` raises.
      ConfigError: no cluster at the address, or more workers than this machine has room for.
      WorkerError: workers died more often than `workers.max_failures` allows.
    """
    folder = Path(out).absolute()
    command = command or f"bertjax.finetune_on_workers({config!r}, {str(out)!r}, {workers!r})"
    with held_folder(folder):  # for all workers: one that dies gives nothing away
        try:
            return _finetune_on_workers(config, folder, workers, if_exists, command)
        finally:
            recover(folder)  # where the last worker died before the run had begun


def _finetune_on_workers(
    config: FineTuneConfig, folder: Path, workers: Workers, if_exists: IfExists, command: str
) -> FineTuneResult:
    """`finetune_on_workers` in a folder that this process holds."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.v2.jax import JaxTrainer

    run_folder.check_folder(folder, flatten(config.resolved()), if_exists)
    if if_exists in run_folder.RESUMES:
        run_folder.check_resumable(folder)
    tracker_of(config.tracking, config.experiment).check(folder if if_exists in run_folder.RESUMES else None)
    if not ray.is_initialized() and not ray_cluster.join(workers.address):
        check_room(workers, ray.cluster_resources())  # it cannot grow: Ray would wait for ever
    variables = ray_cluster.carried_variables() | {"MLFLOW_TRACKING_URI": tracking_address()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Ray may still write into it when the run is over.
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
    ) as shared:
        notes = Path(shared)
        trainer = JaxTrainer(
            _work,
            train_loop_config={"job": _Job(config, folder, if_exists, command, Path.cwd(), notes)},
            scaling_config=ScalingConfig(
                num_workers=workers.num_workers,
                use_gpu=workers.use_gpu,
                use_tpu=workers.use_tpu,
                topology=workers.topology,
                accelerator_type=workers.accelerator,
            ),
            run_config=RunConfig(
                name="ray",
                storage_path=shared,
                failure_config=FailureConfig(max_failures=workers.max_failures),
                worker_runtime_env={"env_vars": variables},
            ),
        )
        try:
            result = trainer.fit().return_value
        except TrainingFailedError as failure:
            if not (notes / _MISTAKE).is_file():
                raise WorkerError(
                    f"workers died more than {workers.max_failures} times ({_last_line(failure)}); --resume --out "
                    f"{folder} continues from the last checkpoint"
                ) from failure
        if (notes / _MISTAKE).is_file():
            raise UserError((notes / _MISTAKE).read_text(encoding="utf-8"))
    assert isinstance(result, FineTuneResult)
    return result


def check_room(workers: Workers, resources: Mapping[str, float]) -> None:
    """Checks that a machine with these Ray resources has room for the workers.

    Raises:
      ConfigError: it has none.
    """
    kind = "GPU" if workers.use_gpu else "TPU" if workers.use_tpu else "CPU"
    available = int(resources.get(kind, 0))
    if workers.num_workers > available:
        raise ConfigError(
            f"--num-workers {workers.num_workers} takes as many {kind}s, and this machine has {available}; give fewer, "
            f"or the --address of a cluster"
        )


def _work(settings: dict[str, Any]) -> FineTuneResult | None:
    """The work of each worker; the first one returns the result."""
    from ray import train

    job: _Job = settings["job"]
    if (job.notes / _MISTAKE).is_file():
        return None  # restarting the workers does not mend a user's mistake
    rank, count = train.get_context().get_world_rank(), train.get_context().get_world_size()
    os.chdir(job.directory)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger("bertjax").setLevel(logging.INFO if rank == 0 else logging.ERROR)
    is_restart = _join_workers(job, rank, count)
    try:
        result = _run(job, rank, is_restart)
    except UserError as mistake:
        (job.notes / _MISTAKE).write_text(str(mistake), encoding="utf-8")
        raise
    return result if rank == 0 else None


def _join_workers(job: _Job, rank: int, count: int) -> bool:
    """Joins the devices of all workers; returns whether this is a restart.

    Ray initialises `jax.distributed` for GPU and TPU workers itself, and not for CPU workers.
    """
    import jax
    import ray
    from ray.train.collective import broadcast_from_rank_zero

    rendezvous = None
    if rank == 0:
        rendezvous = (f"{ray.util.get_node_ip_address()}:{_free_port()}", (job.notes / _STARTED).exists())
        (job.notes / _STARTED).touch()
    address, is_restart = broadcast_from_rank_zero(rendezvous)
    if not jax.distributed.is_initialized():
        jax.distributed.initialize(address, num_processes=count, process_id=rank)
    return bool(is_restart)


def _run(job: _Job, rank: int, is_restart: bool) -> FineTuneResult:
    """The run; after a failure from its last checkpoint, or from its beginning where there is none."""
    from bertjax.training.loop.progress import LineProgress

    if_exists, begun = job.if_exists, job.notes / _BEGUN
    if is_restart and if_exists not in run_folder.RESUMES:
        # Before it had begun, a checkpoint in the folder is that of a run which it was to replace.
        if_exists = "resume" if begun.exists() and run_folder.has_checkpoint(job.folder) else "overwrite"
    if rank == 0:
        recover(job.folder)
    context = RunContext(job.command, progress=LineProgress(), begun=begun.touch)
    return finetune_in(job.folder, job.config, if_exists, context)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _last_line(failure: Exception) -> str:
    return (str(failure).strip() or type(failure).__name__).splitlines()[-1]
