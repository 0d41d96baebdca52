"""Handing over the state of one trial to another, by its checkpoints.

The donor goes on and removes what it no longer keeps, perhaps before the other is started again. So the other gets
copies at once, beside its own checkpoints; it takes them for its own when it starts.
"""

import os
import shutil
from pathlib import Path

from bertjax.training.run.run_folder import CHECKPOINTS

_HANDED_OVER = "handed-over"


def hand_over(donor: Path, run: Path) -> None:
    """Puts copies of a run's checkpoints, the best and the newest, into the folder of another run.

    Args:
      donor: the folder of a run in which nobody works now.
      run: the folder of the run that is to go on from them.
    """
    shutil.copytree(donor / CHECKPOINTS, run / _HANDED_OVER, copy_function=_link)


def take_over(run: Path) -> None:
    """Puts what was handed over to a run in the place of its own checkpoints, if that is still to be done."""
    handed = run / _HANDED_OVER
    if handed.is_dir():
        shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
        handed.replace(run / CHECKPOINTS)


def clear(run: Path) -> None:
    """Removes what was handed over to a run and not taken: its driver was killed, or its sweep is done."""
    shutil.rmtree(run / _HANDED_OVER, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """A checkpoint is never written again, so a second name of its files is a copy; not every file system has those."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
