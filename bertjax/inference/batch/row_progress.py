"""Progress over the rows of files: a bar on a terminal, plain lines in a log, or nothing."""

import logging
import sys
import time
from typing import Any, Protocol

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


class RowProgress(Protocol):
    """Shows how many rows are done; a context manager around the work."""

    def __enter__(self) -> "RowProgress": ...

    def __exit__(self, *exception: Any) -> None:
        return

    def begin(self, total: int, done: int) -> None:
        """Says how many rows there are, and how many an earlier start has done."""
        return

    def advance(self, rows: int) -> None:
        """Counts rows that are done now."""
        return


class NoRowProgress(RowProgress):
    """Shows nothing."""

    def __enter__(self) -> RowProgress:
        return self


class RowLines(NoRowProgress):
    """A log line every few seconds."""

    def __init__(self, seconds_between: float = _SECONDS_BETWEEN_LINES) -> None:
        self._seconds_between = seconds_between

    def begin(self, total: int, done: int) -> None:
        self._total, self._done, self._before = total, done, done
        self._started = time.monotonic()
        self._next = self._started + self._seconds_between

    def advance(self, rows: int) -> None:
        self._done += rows
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._seconds_between
        rate = (self._done - self._before) / max(now - self._started, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        share = 100 * self._done // max(self._total, 1)
        logger.info(
            "%d of %d rows (%d%%), %.0f rows/s, %.0f s left", self._done, self._total, share, rate, left
        )  # fmt: skip


class RowBar(NoRowProgress):
    """A bar with the rate and the time that remains."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows, {task.fields[rate]:.0f} rows/s, ETA"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> RowProgress:
        self._bar.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.stop()

    def begin(self, total: int, done: int) -> None:
        self._started, self._new = time.monotonic(), 0
        self._task = self._bar.add_task("", total=total, completed=done, rate=0.0)

    def advance(self, rows: int) -> None:
        self._new += rows
        rate = self._new / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, advance=rows, rate=rate)


def row_progress_for_stderr() -> RowProgress:
    """A bar where stderr is a terminal, else lines."""
    return RowBar() if sys.stderr.isatty() else RowLines()
