"""The peak of this process's memory during a block of code."""

import threading
from typing import Any

import psutil

_SECONDS_BETWEEN_SAMPLES = 0.02


class PeakMemory:
    """Samples the resident memory of this process in a thread, as a context manager.

    A counter of the kernel would be exact, but counts from the start of the process.

    Attributes:
      before: bytes at the start of the block.
      peak: most bytes in the block.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self.before = self.peak = 0

    def __enter__(self) -> "PeakMemory":
        self.before = self.peak = self._resident()
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, self._resident())

    def _sample(self) -> None:
        while not self._done.wait(_SECONDS_BETWEEN_SAMPLES):
            self.peak = max(self.peak, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)
