"""What the command line sets for its own process, and says so: nothing that changes a number, only its speed.

A training step allocates and frees hundreds of megabytes. With 4 KiB pages, a quarter of its time on a CPU goes into
page faults; glibc can ask for huge pages, but only if told before the process starts. So the command line starts
itself once more with `GLIBC_TUNABLES` set. A user who has set that variable keeps it.
"""

import os
import platform
import sys

_VARIABLE = "GLIBC_TUNABLES"
_TUNABLES = {
    "hugetlb": "1",  # transparent huge pages for the heap
    "mmap_max": "0",  # large buffers come from the heap too,
    "trim_threshold": "8589934592",  # which keeps up to 8 GiB for the next step,
    "arena_max": "1",  # and there is only one
}


def restart_with_huge_pages() -> None:
    """Replaces this process by the same command with a tuned allocator; returns where that is done or not possible."""
    if _VARIABLE in os.environ or platform.libc_ver()[0] != "glibc":
        return
    tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, _VARIABLE: tunables})
