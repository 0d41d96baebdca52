"""`bertjax sync`: uploads what runs recorded while MLflow did not answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from bertjax.cli.flags import parse
from bertjax.errors import ConfigError


@dataclass(frozen=True)
class Arguments:
    """Send what the event logs of ended runs still hold to MLflow.

    A run whose MLflow does not answer keeps its records in its folder. They go to where the run began, or where
    MLFLOW_TRACKING_URI says.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of the runs."""


def main(arguments: Sequence[str]) -> int:
    """Prints a line for each folder."""
    folders = parse(Arguments, arguments, "bertjax sync").folders
    if not folders:
        raise ConfigError("give the folders of the runs to send (see bertjax sync --help)")
    from bertjax.tracking.mlflow_tracker import upload_pending

    for folder in folders:
        print(f"{folder}: {upload_pending(folder)} records sent")
    return 0
