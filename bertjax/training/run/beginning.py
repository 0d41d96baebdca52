"""How a run takes over its folder: every check passes before anything of the previous run is lost.

    with held_folder(out):
        ...                                            read and check the input
        with Beginning(out, resumes) as beginning, tracked_run(tracker):
            beginning.open(write_start)                old contents aside, new settings in
            tracker.start(...)                         and whatever else may fail
            beginning.commit()                         the old contents go
            ...                                        train

Runs, several seeds, comparisons and sweeps all begin so. A block that fails before `commit` leaves the folder as it
was. After a kill the old contents are in the folder or in `previous/` in it (see `PreviousContents`), from where the
next start puts them back.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertjax.storage.folder_lock import LOCK, contents, locked_folder
from bertjax.storage.previous_contents import PreviousContents
from bertjax.training.run.run_folder import belongs_to_run

logger = logging.getLogger(__name__)


@contextmanager
def held_folder(folder: Path, belongs: Callable[[str], bool] = belongs_to_run) -> Iterator[None]:
    """Keeps other processes out of the folder of a run for its life, and puts back what a killed start had set aside.

    Raises:
      FolderInUse: another process has it, or the folder of a run below it.
    """
    with locked_folder(folder):
        for lock in folder.glob(f"*/{LOCK}"):
            with locked_folder(lock.parent):
                pass
        recover(folder, belongs)
        yield


def recover(folder: Path, belongs: Callable[[str], bool] = belongs_to_run) -> None:
    """Puts back what a killed start had set aside, and says so."""
    if PreviousContents(folder, belongs).recover():
        logger.warning(
            "%s: a start that was to replace the run was killed before it had begun; the run is back in its place",
            folder,
        )


class Beginning:
    """The beginning of a run in a folder that the caller holds; undone where its block ends before `commit`."""

    def __init__(self, folder: Path, resumes: bool, belongs: Callable[[str], bool] = belongs_to_run):
        """Touches nothing yet.

        Args:
          folder: of the run; `check_folder` has allowed it.
          resumes: whether the run in it goes on; otherwise it gives way.
          belongs: tells by its name whether an entry of the folder is part of such a run.
        """
        self._folder, self._resumes = folder, resumes
        self._previous = PreviousContents(folder, belongs)
        self._write: Callable[[], None] | None = None  # between `open` and `commit`
        self._replaces = False

    def open(self, write: Callable[[], None]) -> None:
        """Makes way for the run, and writes its first files; those of a run that goes on change at `commit` only."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._replaces = not self._resumes and bool(contents(self._folder))
        self._write = write
        if self._replaces:
            self._previous.set_aside()
        if not self._resumes:
            write()

    def commit(self) -> None:
        """The run has begun; what was in its place is removed. Does nothing before `open`, nor a second time."""
        write, self._write = self._write, None
        if write is None:
            return
        if self._resumes:
            write()
        self._previous.remove()

    def __enter__(self) -> "Beginning":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._write is None or self._resumes:
            return
        if self._replaces:
            self._previous.put_back()
        else:
            self._previous.remove_new()
