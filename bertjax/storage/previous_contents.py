"""The old contents of a folder, set aside until the new ones have begun, then removed, or put back.

    previous.moving/     old entries on their way out, or back; those that are still outside are old, too
    previous/            all old entries; those outside are new
    previous.deleting/   old entries that nothing needs any more

Each state becomes the next one by a rename, so a process that is killed at any point leaves the old contents whole, in
the folder or in `previous/`, or the new ones. They stay inside the folder, because it may be a link, a mount, or the
only place that the user may write to; entries that belong to neither are never touched.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

NAME = "previous"


class PreviousContents:
    """The entries of a folder that give way to new ones."""

    def __init__(self, folder: Path, belongs: Callable[[str], bool]):
        """Touches nothing yet; `belongs` tells by its name whether an entry is old or new contents, or foreign."""
        self._folder, self._belongs = folder, belongs
        self._aside = folder / NAME
        self._moving, self._deleting = folder / f"{NAME}.moving", folder / f"{NAME}.deleting"

    def recover(self) -> bool:
        """Ends what a killed process left half done; returns whether old contents have been put back."""
        shutil.rmtree(self._deleting, ignore_errors=True)
        left = self._aside.is_dir() or self._moving.is_dir()
        self.put_back()
        return left

    def set_aside(self) -> None:
        """Moves the old contents out of the way of new ones."""
        self._moving.mkdir()
        for path in self._entries():
            path.rename(self._moving / path.name)
        self._moving.rename(self._aside)

    def remove(self) -> None:
        """Removes what was set aside, if anything was: by one rename it is gone."""
        if self._aside.is_dir():
            self._aside.rename(self._deleting)
            shutil.rmtree(self._deleting, ignore_errors=True)

    def put_back(self) -> None:
        """Removes the new contents and brings back the old ones, if any were set aside."""
        if self._aside.is_dir():
            self.remove_new()
            self._aside.rename(self._moving)
        if self._moving.is_dir():
            for path in self._moving.iterdir():
                path.rename(self._folder / path.name)
            self._moving.rmdir()

    def remove_new(self) -> None:
        """Removes the contents that were not set aside."""
        for path in self._entries():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _entries(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if self._belongs(path.name)]
