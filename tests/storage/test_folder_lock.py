"""The lock of a folder: among processes and threads, after a kill, in a copy, and what is left of it: nothing."""

import errno
import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from bertjax.errors import DiskError, FolderInUse, RunFolderError
from bertjax.storage.folder_lock import HOLDER, LOCK, contents, locked_folder
from tests.support.processes import holding


def test_the_second_process_is_told_who_has_the_folder(tmp_path):
    with holding(tmp_path / "run") as process:
        message = rf"run is in use by process {process.pid} on \S+ since 20\d\d-\d\d-\d\d [\d:]+; wait for its end"
        with pytest.raises(FolderInUse, match=message), locked_folder(tmp_path / "run"):
            pass
        assert contents(tmp_path / "run") == []
    with locked_folder(tmp_path / "run"):  # the other process was killed
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [LOCK, HOLDER]


def test_a_copy_of_a_folder_in_use_is_free(tmp_path):
    with holding(tmp_path / "run"):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        with locked_folder(tmp_path / "copy"):
            pass
    assert [path.name for path in (tmp_path / "copy").iterdir()] == []


def test_who_waits_gets_it_when_the_process_has_ended(tmp_path):
    with holding(tmp_path / "run") as process:
        threading.Timer(0.3, process.kill).start()
        with locked_folder(tmp_path / "run", wait=True):
            assert process.wait(10) != 0


def test_threads_exclude_each_other_and_blocks_of_one_thread_do_not(tmp_path):
    refused = []

    def other() -> None:
        try:
            with locked_folder(tmp_path / "run"):
                pass
        except FolderInUse as error:
            refused.append(str(error))

    (tmp_path / "link").symlink_to(tmp_path / "run")
    with locked_folder(tmp_path / "run"):
        with locked_folder(tmp_path / "link"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()}" in refused[0]


@pytest.mark.parametrize("written", [False, True])
def test_what_was_made_goes_if_nothing_was_written(tmp_path, written):
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path / "a" / "run"):  # noqa: PT012 (the block is the subject)
        if written:
            (tmp_path / "a" / "run" / "config.json").write_text("{}")
        raise ZeroDivisionError
    assert (tmp_path / "a").exists() == written
    (tmp_path / "mine").mkdir()
    with locked_folder(tmp_path / "mine"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_mount_that_refuses_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked_folder(tmp_path / "run"), locked_folder(tmp_path / "run"):
        (tmp_path / "run" / "config.json").write_text("{}")
    assert "run cannot be locked (No locks available): nothing keeps a second process out" in caplog.text
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def _a_file(path: Path) -> None:
    path.write_text("")


def _a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def _too_long(path: Path) -> None:
    path.symlink_to("x" * 300)


def _below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (_a_file, RunFolderError, "run is a file; give a folder"),
        (_a_link_to_nothing, RunFolderError, "run is a link to .*gone, which does not exist; make that folder"),
        (_below_a_file, RunFolderError, "in is a file; give a folder"),
        (_too_long, DiskError, "cannot be written: File name too long; choose another folder"),
    ],
)
def test_what_is_no_folder(tmp_path, make, error, message):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "run")
    with pytest.raises(error, match=message), locked_folder(tmp_path / "in" / "run"):
        pass
