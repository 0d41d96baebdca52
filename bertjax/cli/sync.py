"""`bertjax sync`: uploads what runs recorded while MLflow did not answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from bertjax.cli.flags import parse
from bertjax.cli.messages import say
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
    from bertjax.tracking import event_log
    from bertjax.tracking.mlflow_tracker import upload_pending

    for folder in folders:
        uploaded = upload_pending(folder)
        say(f"{folder}: {uploaded.events} records sent")
        for record, reason in uploaded.refused.items():
            say(f"{folder}: MLflow refuses {record} ({reason}); it stays in {folder / event_log.FILE}")
    return 0
