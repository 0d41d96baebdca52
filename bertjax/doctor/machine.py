"""The machine without its accelerators: cache, disk, memory, and the settings of the allocator."""

import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from bertjax.doctor.check import Check

_LITTLE_DISK, _LITTLE_MEMORY = 2 * 2**30, 4 * 2**30  # bytes; a run of BERT-base keeps about as much in checkpoints
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_TUNABLES = "GLIBC_TUNABLES"


def check_machine(cache: Path, tunables: str) -> list[Check]:
    """All checks of this module.

    Args:
      cache: bertjax's folder of assets and compiled programs.
      tunables: the value of `GLIBC_TUNABLES` that the command line sets.
    """
    return [
        check_folder("cache", cache, "let BERTJAX_CACHE name a folder that you may write to"),
        check_folder("current folder", Path.cwd(), "runs are written here: go to a folder that you may write to"),
        _check_memory(),
        check_allocator(tunables, os.environ, _HUGE_PAGES),
    ]


def check_folder(name: str, folder: Path, mend: str) -> Check:
    """Whether a folder, or the one that it would be made in, can be written, and has room.

    Args:
      name: of the check.
      mend: for a folder that cannot be written.
    """
    present = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=present):
            pass
        free = shutil.disk_usage(present).free
    except OSError as error:
        return Check(name, "bad", f"{folder}: {present} cannot be written ({error.strerror})", mend)
    size = _size_of(folder) if name == "cache" else None
    found = f"{folder}, {'' if size is None else f'{_gib(size)} in use, '}{_gib(free)} free on its disk"
    if free < _LITTLE_DISK:
        return Check(name, "warn", found, f"free some space: a run may need {_gib(_LITTLE_DISK)} and more")
    return Check(name, "ok", found)


def check_allocator(tunables: str, environment: Mapping[str, str], huge_pages: Path) -> Check:
    """Whether training may have huge pages, as the command line asks for.

    Args:
      tunables: the value of `GLIBC_TUNABLES` that the command line sets where it is not set.
      environment: variables of this process.
      huge_pages: the kernel's file, such as `always [madvise] never`.
    """
    name, preload = "allocator", environment.get("LD_PRELOAD", "")
    if platform.libc_ver()[0] != "glibc":
        return Check(name, "ok", "no glibc here; its settings do not apply")
    if "malloc" in preload:
        return Check(
            name,
            "warn",
            f"LD_PRELOAD puts {preload} in the place of glibc's malloc, whose settings do not reach it",
            "unset LD_PRELOAD, or measure that your allocator is as fast",
        )
    if huge_pages.is_file() and "[never]" in huge_pages.read_text():
        return Check(
            name,
            "warn",
            f"the kernel gives no huge pages ({huge_pages} is never): a step on a CPU takes a quarter longer",
            f"as root: echo madvise > {huge_pages}",
        )
    own = environment.get(_TUNABLES)
    if own is not None and own != tunables:
        return Check(
            name,
            "warn",
            f"{_TUNABLES} is yours ({own}); long jobs leave it as it is",
            f"unset {_TUNABLES}, or set it to {tunables}",
        )
    return Check(name, "ok", f"long jobs start themselves with huge pages ({_TUNABLES})")


def _check_memory() -> Check:
    memory, cores = psutil.virtual_memory(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    found = f"{_gib(memory.available)} of {_gib(memory.total)} free, {cores or os.cpu_count()} CPU cores"
    if memory.available < _LITTLE_MEMORY:
        return Check(
            "memory", "warn", found, "end other programs, or train with a smaller --batch-size or --accumulate"
        )
    return Check("memory", "ok", found)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
