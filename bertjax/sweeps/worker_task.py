"""Runs a function in its own Ray worker process, with the resources and the environment of a trial."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertjax.errors import UserError
from bertjax.sweeps.sweep_config import Sweep
from bertjax.tracking.mlflow_store import tracking_address


def run_in_worker(sweep: Sweep, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns there. The process ends with it, so that a trial gets its devices.

    Raises:
      UserError: the function raised it.
    """
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(
        num_cpus=sweep.cpus,
        num_gpus=sweep.gpus,
        resources=dict(sweep.resources),
        max_retries=sweep.retries,
        max_calls=1,
    )(_run)
    try:
        return ray.get(task.remote(function, arguments, str(Path.cwd()), tracking_address()))
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


def enter_driver_settings(cwd: str, store: str) -> None:
    """Gives a Ray worker process, which is shared with no other work, the driver's folder and MLflow address."""
    if Path(cwd).is_dir():
        os.chdir(cwd)
    os.environ["MLFLOW_TRACKING_URI"] = store


def _run(function: Callable[..., Any], arguments: tuple[Any, ...], cwd: str, store: str) -> Any:
    enter_driver_settings(cwd, store)
    return function(*arguments)
