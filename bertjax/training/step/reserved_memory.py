"""Heap memory reserved for the temporaries of a training step on a CPU, so that they are not mapped at each step.

XLA allocates the temporaries of a program each time it runs. glibc maps every buffer above 32 MiB anew and unmaps it
when it is freed, and the kernel has to clear its pages each time: 3 to 9% of a step of MiniLM-L6 on two cores. glibc
takes a hole in the heap first where one is large enough, so a hole is made before the steps.

Long-lived smaller buffers would take pieces of it. glibc takes the smallest hole that fits, so there is a second,
smaller one for them. A hole takes no memory before it is used.
"""

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

_LEAST = 32 << 20  # bytes of a buffer that glibc always maps
_MOST_LOSSES = 16  # of a hole, after which none is made any more
_MMAP_MAX, _MAPPED_BY_DEFAULT = -4, 65536  # M_MMAP_MAX of malloc.h; how many buffers may be mapped
_STATM = Path("/proc/self/statm")  # in pages, the whole address space first

_Address = int | None  # None where there is no memory


class ReservedMemory:
    """A hole for buffers that are allocated and freed together, again and again.

    Attributes:
      lost: whether the buffers no longer fit into the hole; it should be reserved anew.
    """

    def __init__(self) -> None:
        """Reserves nothing yet."""
        self.lost = False
        self._losses = 0
        self._walls: tuple[_Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._walls)

    def reserve(self, size: int) -> None:
        """Makes a hole for buffers of so many bytes in total, in place of the present one.

        There is none where the buffers are small enough to lie in the heap anyway, where the process has other settings
        of the allocator than the command line's, where there is no memory, and where holes do not last.
        """
        self.release()
        calls = _calls()
        if calls is not None and size >= _LEAST and self._losses < _MOST_LOSSES:
            self._walls = _walls_of_holes(calls, size)

    def release(self) -> None:
        """Lets the hole grow together with its neighbours, so that the heap can end before it."""
        walls, self._walls, self.lost = self._walls, (), False
        calls = _calls()
        if calls is not None:
            _free(calls, walls)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around the allocation of the buffers: notices where they were mapped after all."""
        if not self:
            yield
            return
        before = _address_space()
        yield
        if _address_space() >= before + _LEAST:
            self.lost = True
            self._losses += 1


class _Calls(NamedTuple):
    """The functions of the C library."""

    malloc: Callable[[int], _Address]
    free: Callable[[_Address], None]
    mallopt: Callable[[int, int], int]
    sbrk: Callable[[int], int]


def _walls_of_holes(calls: _Calls, size: int) -> tuple[_Address, ...]:
    """The allocated chunks around two new holes, for buffers of `size` bytes and for others; empty without memory."""
    calls.mallopt(_MMAP_MAX, 0)
    try:
        *older_holes, before = _up_to_the_end_of_the_heap(calls, size // 2)
        # No hole is left that any of these fits into, so they lie side by side. What the buffers leave of theirs is too
        # small for a second one, and larger than the hole for others: those would cut it off right behind the buffers.
        for_others, between, for_buffers, behind = map(calls.malloc, (size // 2, size, 2 * size - _LEAST // 2, size))
    finally:
        calls.mallopt(_MMAP_MAX, _MAPPED_BY_DEFAULT)
    _free(calls, (*older_holes, for_others, for_buffers))
    walls = (before, between, behind)
    if None in (*walls, for_others, for_buffers):
        _free(calls, walls)
        return ()
    return walls


def _up_to_the_end_of_the_heap(calls: _Calls, size: int) -> list[_Address]:
    """A chunk from each hole that is large enough, and the first one behind them all."""
    end = calls.sbrk(0)
    chunks = [calls.malloc(size)]
    while chunks[-1] is not None and chunks[-1] + size < end:
        chunks.append(calls.malloc(size))
    return chunks


def _free(calls: _Calls, chunks: Iterable[_Address]) -> None:
    for chunk in chunks:
        calls.free(chunk)


def _address_space() -> int:
    """Bytes that the process has mapped; mallinfo2 would say what glibc has, but takes a millisecond."""
    return int(_STATM.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")


@cache
def _calls() -> _Calls | None:
    """None where it is not glibc, or where it has several heaps or its own limit of what it maps."""
    settings = os.environ.get("GLIBC_TUNABLES", "").split(":")
    if "glibc.malloc.arena_max=1" not in settings or any("mmap_max" in each for each in settings):
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not _STATM.exists():
        return None
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
    libc.sbrk.argtypes, libc.sbrk.restype = [ctypes.c_ssize_t], ctypes.c_size_t
    return _Calls(libc.malloc, libc.free, libc.mallopt, libc.sbrk)
