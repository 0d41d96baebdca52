"""Old contents of a folder are whole until the new ones have begun, wherever their process is killed."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from bertjax.storage.previous_contents import PreviousContents

OLD = {"config.json": "old", "metrics.json": "old", "checkpoints/5/state": "old", "model/weights": "old"}
NEW = {"config.json": "new", "tracking.jsonl": "new"}
FOREIGN = {"notes.txt": "mine", "figures/loss.png": "mine"}


class Killed(BaseException):
    """No block of the code under test is left in an orderly way."""


@contextmanager
def killed_at(number: int) -> Iterator[None]:
    """The process ends at its n-th change of the file system, from 1; the block ends by itself where it has fewer."""
    changes = itertools.count(1)

    def counted(change: Callable[..., None]) -> Callable[..., None]:
        def changing(*arguments, **named):
            if next(changes) == number:
                raise Killed
            return change(*arguments, **named)

        return changing

    with patch.multiple(os, **{name: counted(getattr(os, name)) for name in ("rename", "mkdir", "rmdir", "unlink")}):
        yield


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def previous_of(folder: Path) -> PreviousContents:
    names = {name.split("/")[0] for name in (*OLD, *NEW)}
    return PreviousContents(folder, names.__contains__)


def replace_contents(folder: Path, fails: bool) -> None:
    previous = previous_of(folder)
    previous.set_aside()
    write(folder, NEW)
    if fails:
        previous.put_back()
    else:
        previous.remove()


@pytest.mark.parametrize("fails", [False, True], ids=["the new ones begin", "the new ones fail"])
def test_a_process_that_is_killed_anywhere_leaves_the_old_or_the_new(tmp_path, fails):
    """So does one that is killed while it puts back what another one has left."""
    seen, ended = set(), False
    for first in itertools.count(1):
        for second in itertools.count(1):
            folder = tmp_path / f"{first}-{second}"
            write(folder, OLD | FOREIGN)
            try:
                with killed_at(first):
                    replace_contents(folder, fails)
                ended = True
            except Killed:
                pass
            try:
                with killed_at(second):
                    previous_of(folder).recover()
                recovered = True
            except Killed:
                recovered = False
            previous_of(folder).recover()
            found = files_in(folder)
            assert found in ({**OLD, **FOREIGN}, {**NEW, **FOREIGN}), (first, second)
            assert not list(folder.glob("previous*")), (first, second)
            seen.add(found["config.json"])
            if recovered or ended:
                break
        if ended:
            break
    assert first > 6  # the points at which it was killed
    assert found["config.json"] == ("old" if fails else "new")
    assert seen == ({"old"} if fails else {"old", "new"})


def test_a_link_and_a_folder_of_another_owner_stay_in_place(tmp_path):
    """Nothing is written beside the folder, which may be a link or a mount."""
    folder = tmp_path / "disk" / "run"
    write(folder, OLD)
    (tmp_path / "run").symlink_to(folder)
    replace_contents(tmp_path / "run", fails=False)
    assert files_in(folder) == NEW
    assert (tmp_path / "run").is_symlink()
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
