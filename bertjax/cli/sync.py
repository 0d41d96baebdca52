"""`bertjax sync`: uploads what runs recorded while MLflow did not answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain, say
from bertjax.errors import ConfigError, FolderInUse


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
    from bertjax.storage.folder_lock import locked_folder
    from bertjax.tracking import event_log
    from bertjax.tracking.mlflow_tracker import upload_pending

    in_use = False
    for folder in folders:
        try:
            with locked_folder(folder):  # a run that goes on sends its own records, from the same log
                uploaded = upload_pending(folder)
        except FolderInUse as error:
            complain(str(error))
            in_use = True
            continue
        say(f"{folder}: {uploaded.events} records sent")
        for record, reason in uploaded.refused.items():
            say(f"{folder}: MLflow refuses {record} ({reason}); it stays in {folder / event_log.FILE}")
    return ExitCode.USAGE if in_use else ExitCode.OK
