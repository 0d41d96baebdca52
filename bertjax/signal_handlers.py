"""The handler of SIGTERM, in whose place Ray puts one that prints a C++ stack and aborts the process."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Whatever handled SIGTERM before the block handles it after it; only the main thread can see to that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Always set again, although Python may think that it never changed: Ray's handler is not Python's.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
