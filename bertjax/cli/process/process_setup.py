"""Process-wide settings of the command line: they change the speed, never a number.

Memory: a training step allocates and frees hundreds of megabytes. With 4 KiB pages, a quarter of its time on a CPU goes
into page faults; glibc can ask for huge pages, but reads its settings at the process start. So the command line starts
itself once more with `GLIBC_TUNABLES` set. A user who has set that variable keeps it.

Compiled programs: JAX can keep them on disk, so that the second start of a job finds them. The command line names a
folder for that, and a size at which the least recently used ones go. A user who has named a folder of their own with
`JAX_COMPILATION_CACHE_DIR` keeps it as it is; `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.

Garbage: imports and tracing make a million objects that stay, and Python's collector goes through all of them again and
again, which took 1.9 s of a start of 9 s. With higher thresholds it begins when they are made.
"""

import gc
import os
import platform
import sys
from pathlib import Path

from bertjax.catalog import cache_folder
from bertjax.cli.process.messages import complain
from bertjax.storage.plain_path import is_plain

_VARIABLE = "GLIBC_TUNABLES"
_TUNABLES = {
    "hugetlb": "1",  # transparent huge pages for the heap
    "arena_max": "1",  # of which there is only one,
    "trim_threshold": "8589934592",  # and which keeps up to 8 GiB for the next step
    "mmap_threshold": "33554432",  # except of the largest buffers, whose holes later allocations would fragment
}

_DETERMINISTIC = ("--xla_gpu_exclude_nondeterministic_ops=true",)
_WITHOUT_KEPT_CHOICES = (
    "--xla_gpu_deterministic_ops=true",
    "--xla_gpu_autotune_level=0",  # no race between kernels decides which one computes: slow
)

# New objects before a collection of the youngest generation, its collections before one of the second, and so on; by
# default 700, 10 and 10.
_GARBAGE_THRESHOLDS = (2_000_000, 1, 10)
_GARBAGE_THRESHOLDS_OF_A_SERVER = (200_000, 10, 10)  # whose garbage of days would fill hundreds of megabytes

_COMPILED = "JAX_COMPILATION_CACHE_DIR"
_KERNEL_CHOICES = "xla_gpu_per_fusion_autotune_cache_dir"  # one of the caches that JAX keeps in its folder, by default
_FALSE = ("0", "false", "f", "no", "n", "off")  # as JAX reads a variable
COMPILED_SETTINGS = {
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 2**30),  # bytes; a training step of BERT-base takes some 20 MiB
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",  # a start compiles a dozen small programs too
}


def restart_with_huge_pages() -> None:
    """Replaces this process by the same command with a tuned allocator; returns if it is tuned or cannot be."""
    if _VARIABLE in os.environ or platform.libc_ver()[0] != "glibc":
        return
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, _VARIABLE: memory_tunables()})


def memory_tunables() -> str:
    """The value of `GLIBC_TUNABLES` of a tuned allocator."""
    return ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())


def compiled_folder() -> Path:
    """The default folder of compiled programs."""
    return cache_folder() / "compiled"


def keep_compiled_programs() -> None:
    """Sets JAX's folder for compiled programs, in this process and its children; call it before JAX is imported."""
    if _COMPILED in os.environ:
        return
    folder = compiled_folder()
    if not is_plain(folder):
        complain(f"compiled programs are not kept: JAX would take {folder} for a pattern; BERTJAX_CACHE names another")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a home that cannot be written to: everything works, and compiles each time
    os.environ[_COMPILED] = str(folder)
    for name, value in COMPILED_SETTINGS.items():
        os.environ.setdefault(name, value)


def make_deterministic() -> None:
    """Sets the XLA flags that a GPU needs to compute the same bits each time; call it before JAX is imported.

    A GPU may add numbers in another order each time, and chooses its kernels by timing them. Where compiled programs
    are kept, JAX keeps these choices beside them (`xla_gpu_per_fusion_autotune_cache_dir`), and each later start takes
    them from there: the way that XLA's page on determinism recommends. Where nothing is kept, nothing is timed. CPUs
    and TPUs do neither: there the same seed gives the same bits anyway.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    missing = [
        flag for flag in deterministic_flags(_keeps_kernel_choices()) if flag.split("=", maxsplit=1)[0] not in flags
    ]
    os.environ["XLA_FLAGS"] = " ".join([*flags.split(), *missing])


def deterministic_flags(keeps_choices: bool) -> tuple[str, ...]:
    """The XLA flags of a GPU that computes the same bits each time, where kernel choices are kept or not."""
    return _DETERMINISTIC if keeps_choices else (*_DETERMINISTIC, *_WITHOUT_KEPT_CHOICES)


def _keeps_kernel_choices() -> bool:
    """Whether JAX will keep on disk which kernels it chose."""
    kept = os.environ.get("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", _KERNEL_CHOICES)
    enabled = os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "true").lower() not in _FALSE
    return bool(os.environ.get(_COMPILED)) and enabled and (kept == "all" or _KERNEL_CHOICES in kept)


def collect_garbage_rarely() -> None:
    """Has the collector of reference cycles run after more new objects; call it before the imports that it is for."""
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def collect_garbage_of_a_server() -> None:
    """Has that collector run more often, in a process that stays."""
    gc.set_threshold(*_GARBAGE_THRESHOLDS_OF_A_SERVER)


def prepare_process() -> None:
    """All settings of a long job: compiled programs on disk, huge pages, rare collections of garbage."""
    keep_compiled_programs()
    restart_with_huge_pages()
    collect_garbage_rarely()
