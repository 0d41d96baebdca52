"""Prefetching: a background thread makes the next batches while the device computes the current one."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_END: object = object()


def prefetched(items: Iterable[T], depth: int = 2) -> Generator[T]:
    """The same items in the same order, computed ahead in a thread.

    The thread ends with the items, with an exception in making them (raised here, after the items before it), or when
    this iterator is closed or collected.

    Args:
      items: iterated in the thread, so no other code may use the iterator.
      depth: items that may wait, beside the one that is being made.
    """
    iterator = iter(items)
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    try:
        ahead = deque(thread.submit(next, iterator, _END) for _ in range(depth + 1))
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(thread.submit(next, iterator, _END))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)
