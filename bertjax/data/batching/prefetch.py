"""Prefetching: the next batches are made in a background thread while the device computes the current one."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.05  # how soon the thread notices that the consumer is closed


def prefetched(items: Iterable[T], depth: int = 2) -> Generator[T]:
    """The same items in the same order, computed ahead in a thread.

    The thread ends with the items, with an exception in making them (raised here, after the items before it), or when
    this iterator is closed or collected.

    Args:
      items: iterated in the thread, so no other code may use the iterator.
      depth: items that may wait.
    """
    waiting: queue.Queue[tuple[str, object]] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def put(kind: str, value: object) -> bool:
        while not closed.is_set():
            try:
                waiting.put((kind, value), timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
        except BaseException as error:  # raised again in the consumer
            put("error", error)
        else:
            put("end", None)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        closed.set()
        thread.join()
