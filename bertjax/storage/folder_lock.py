"""One process at a time in a folder: a lock of the kernel, held while a process writes there.

    .lock        locked by `flock`; copying it copies no lock
    .lock.json   who holds it, for the message to everyone else

Both are removed when the lock is released. The kernel releases the lock of a process however that ends, so what a
killed process leaves locks nothing.

Between machines it holds where the file system carries `flock` to its server: NFS (version 4, or 3 with lockd),
CephFS, GPFS, and Lustre mounted with `flock`; the server releases the lock of a machine that is gone after its lease,
90 seconds by default on NFS. Mounted with `nolock`, `local_lock` or `localflock`, and on most mounts of object stores,
it holds among the processes of one machine. Where the system has no `flock`, `filelock` makes do with the existence of
the file, and says so; where a mount refuses locks, the work goes on without one, and a warning says that.
"""

import errno
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from bertjax.errors import DiskError, FolderInUse, RunFolderError, writing
from bertjax.storage.atomic_write import write_json

logger = logging.getLogger(__name__)

LOCK, HOLDER = ".lock", ".lock.json"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # of a file system, or of how it is mounted


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps other processes and threads out of a folder, which is made where it is missing.

    A block of the same folder may be inside another one, in the same thread. What was made is removed at the end if
    nothing has been written into it.

    Args:
      wait: wait for the process that holds the lock, instead of being refused.

    Raises:
      FolderInUse: another process holds the lock; the message names it.
      RunFolderError: the folder is a file, or a link to nothing.
      DiskError: the operating system refuses.
    """
    check_is_folder(folder)
    with writing(folder, "choose another folder, or mend its permissions"):
        place = folder.resolve()  # blocks of one folder share its lock, whatever they call it
        missing = [path for path in (place, *place.parents) if not path.exists()]
        place.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder, FileLock(place / LOCK, is_singleton=True), wait)
    is_outermost = lock.lock_counter <= 1
    try:
        if is_outermost:
            with suppress(OSError):  # on a full disk nobody is told who holds it
                write_json(place / HOLDER, _this_process())
        yield
    finally:
        with suppress(OSError):
            if is_outermost:
                for name in (HOLDER, LOCK):  # under the lock; who waits for a file that is gone opens the next one
                    (place / name).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # not empty: the work has begun
            for path in missing:
                path.rmdir()


def is_in_use(folder: Path) -> bool:
    """Whether a process holds the lock of a folder, or whether that cannot be asked."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked_folder(folder):
            return False
    except (FolderInUse, DiskError):
        return True


def _acquired(folder: Path, lock: BaseFileLock, wait: bool) -> BaseFileLock:
    """The lock once it is held; errors as `locked_folder`."""
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        holder = _holder(Path(lock.lock_file).parent)
        raise FolderInUse(f"{folder} is in use by {holder}; wait for its end, or choose another") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s cannot be locked (%s): nothing keeps a second process out", folder, error.strerror)
    return lock


def check_is_folder(folder: Path) -> None:
    """Checks that a path is a folder, or free for one.

    Raises:
      RunFolderError: it, or a folder that it would be in, is a file, or a link to nothing.
      DiskError: the operating system refuses the name.
    """
    with writing(folder, "choose another folder"):
        for path in (folder, *folder.parents):
            if path.is_dir():
                return
            if path.exists():
                raise RunFolderError(f"{path} is a file; give a folder")
            if path.is_symlink():
                raise RunFolderError(f"{path} is a link to {path.readlink()}, which does not exist; make that folder")


def contents(folder: Path) -> list[Path]:
    """What is in a folder besides its lock; nothing where there is no folder."""
    return [path for path in folder.iterdir() if path.name not in (LOCK, HOLDER)] if folder.is_dir() else []


def _this_process() -> dict[str, str | int]:
    return {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _holder(folder: Path) -> str:
    """Who holds the lock, where it has been written down by now."""
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
