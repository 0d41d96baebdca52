"""Compiling behind the training: what the first step needs comes first, the rest follows while the devices work."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

Compiled = Callable[..., Any]


class Compilations:
    """Programs that compile in threads of their own; whoever needs one waits for that one alone.

    XLA compiles outside of Python's lock. Two threads: the two halves of the first step are all that is compiled at a
    time, so that nothing takes processor time from them.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="compile")
        self._futures: list[Future[Compiled]] = []
        self._lock = threading.Lock()
        self._started = self._finished = time.perf_counter()

    def submit(self, lowered: Callable[[], Any], after: tuple[Future[Compiled], ...] = ()) -> Future[Compiled]:
        """Compiles what `lowered` returns, once those of `after` are done."""
        future = self._pool.submit(self._compile, lowered, after)
        self._futures.append(future)
        return future

    def check(self) -> None:
        """Raises what went wrong behind the training, however long nobody asks for that program."""
        for future in self._futures:
            if future.done() and not future.cancelled() and (error := future.exception()):
                raise error

    @property
    def done(self) -> bool:
        """Whether every program is ready, or has failed."""
        return all(future.done() for future in self._futures)

    def wait(self) -> None:
        """Until every program is ready, or has failed."""
        wait(self._futures)

    @property
    def seconds(self) -> float:
        """From the first program asked for to the last one that is ready."""
        return self._finished - self._started

    def close(self) -> None:
        """Gives up what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self, lowered: Callable[[], Any], after: tuple[Future[Compiled], ...]) -> Compiled:
        wait(after)
        compiled: Compiled = lowered().compile()
        with self._lock:
            self._finished = max(self._finished, time.perf_counter())
        return compiled
