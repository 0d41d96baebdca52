"""The most memory that this process holds while something runs."""

import threading
from types import TracebackType

import psutil

_SECONDS_BETWEEN_LOOKS = 0.02


class MemoryWatch:
    """Looks at the resident memory of this process again and again, as a context manager.

    A counter of the kernel would be exact, but counts from the start of the process.

    Attributes:
      before: bytes when the watch began.
      peak: the most bytes since.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.before = self.peak = 0

    def __enter__(self) -> "MemoryWatch":
        self.before = self.peak = self._resident()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, self._resident())

    def _watch(self) -> None:
        while not self._done.wait(_SECONDS_BETWEEN_LOOKS):
            self.peak = max(self.peak, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)
