"""What a process on a CPU has freed goes back to the system, and what a training step uses stays in huge pages.

XLA's compiler frees some 150 MiB when a step is compiled, in pieces between what stays. glibc keeps them, and they are
too small for what a step allocates, so that the process would hold both. `malloc_trim` gives them back page by page,
which breaks up the huge pages that they share with arrays: a step on small pages takes 2 to 4% longer. So those of the
arrays are put together again, which Linux can since 6.1.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax

HUGE_PAGE = 1 << 21  # bytes, of x86-64 and of arm64 with pages of 4 KiB
_LEAST = HUGE_PAGE // 16  # bytes of an array: a smaller one would bring more of its neighbours' holes back
_COLLAPSE = 25  # MADV_COLLAPSE of linux/mman.h: makes it one huge page, and says whether that was possible


class _Calls(NamedTuple):
    """The functions of the C library."""

    malloc_trim: Callable[[int], int]
    madvise: Callable[[int, int, int], int]


def return_freed_memory(used: Any) -> bool:
    """Gives freed memory back to the system in some 30 ms, for which other threads wait to allocate.

    Args:
      used: a pytree of the arrays on CPUs that the steps to come read or write. An array of another kind is left out,
        and so is one on the devices of several processes: where `pmap`'s result lies there cannot be asked.

    Returns:
      Whether it did; it does nothing where no huge page can be put together, or the libc is not glibc.
    """
    calls, pages = _calls(), _huge_pages_of(used)
    if calls is None or not any(_collapsed(calls, page) for page in pages):
        return False
    calls.malloc_trim(0)
    for page in pages:
        _collapsed(calls, page)
    return True


def trim_heap() -> None:
    """Gives all that is free back to the system, whatever lies beside it."""
    calls = _calls()
    if calls is not None:
        calls.malloc_trim(0)


def _huge_pages_of(arrays: Any) -> list[int]:
    """The addresses of the huge pages that arrays lie in, in part at least; small arrays are left out."""
    own = (leaf for leaf in jax.tree.leaves(arrays) if isinstance(leaf, jax.Array) and leaf.is_fully_addressable)
    ranges = (each for leaf in own for each in _ranges(leaf))
    pages = {page for start, end in ranges for page in range(start - start % HUGE_PAGE, end, HUGE_PAGE)}
    return sorted(pages)


def _ranges(array: jax.Array) -> Iterator[tuple[int, int]]:
    """First and last address of the part of an array on each CPU of this process."""
    for shard in array.addressable_shards:
        if shard.device.platform == "cpu" and shard.data.nbytes >= _LEAST:
            start = shard.data.unsafe_buffer_pointer()
            yield start, start + shard.data.nbytes


def _collapsed(calls: _Calls, page: int) -> bool:
    """Whether the memory at an address is one huge page now; its content stays the same."""
    return calls.madvise(page, HUGE_PAGE, _COLLAPSE) == 0


@cache
def _calls() -> _Calls | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return None  # musl has none
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return _Calls(libc.malloc_trim, libc.madvise)
