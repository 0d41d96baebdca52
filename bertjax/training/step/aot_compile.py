"""Ahead-of-time compilation in background threads: the first step's programs first, the others during training."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from bertjax.devices.program_store import Compiled


class Compilations:
    """A pool of threads that compile programs; a caller waits only for the program that it needs.

    XLA releases the GIL while it compiles. There are two threads, one for each half of the first step, so that no other
    compilation competes with these.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="compile")
        self._futures: list[Future[Compiled]] = []
        self._lock = threading.Lock()
        self._started = self._finished = time.perf_counter()

    def submit(self, compiled: Callable[[], Compiled], after: tuple[Future[Compiled], ...] = ()) -> Future[Compiled]:
        """Schedules `compiled()`, which returns a program, to run after the compilations `after`."""
        future = self._pool.submit(self._compile, compiled, after)
        self._futures.append(future)
        return future

    def check(self) -> None:
        """Raises the error of a compilation that has failed, whether its program is needed yet or not."""
        for future in self._futures:
            if future.done() and not future.cancelled() and (error := future.exception()):
                raise error

    @property
    def done(self) -> bool:
        """Whether every program is ready, or has failed."""
        return all(future.done() for future in self._futures)

    def wait(self) -> None:
        """Blocks until every program is ready, or has failed."""
        wait(self._futures)

    @property
    def seconds(self) -> float:
        """Time from the first submitted program to the last one that is ready."""
        return self._finished - self._started

    def close(self) -> None:
        """Cancels the compilations that have not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self, compiled: Callable[[], Compiled], after: tuple[Future[Compiled], ...]) -> Compiled:
        wait(after)
        program = compiled()
        with self._lock:
            self._finished = max(self._finished, time.perf_counter())
        return program
