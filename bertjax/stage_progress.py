"""Progress of the stages of a long job: a bar on a terminal, plain lines in a log, or nothing.

A job gets a `StageProgress` as an argument and opens a stage for each piece of work that may take long:

    with progress.stage("tokenizing", "texts", len(texts)) as advance:
        for part in parts:
            ...
            advance(len(part))
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

logger = logging.getLogger(__name__)

Advance = Callable[[int], None]
"""Counts what is done now."""

_SECONDS_BETWEEN_LINES = 10.0


class StageProgress(Protocol):
    """Shows how far the stages of a job are, one after the other."""

    def stage(self, title: str, unit: str, total: int | None, done: int = 0) -> AbstractContextManager[Advance]:
        """A stage, which lasts as long as the context.

        Args:
          title: what is done, such as "tokenizing"; may be empty.
          unit: what is counted, in the plural.
          total: how much there is; None where that is not known.
          done: how much of it an earlier start has done.
        """
        ...


class NoStages(StageProgress):
    """Shows nothing."""

    @contextmanager
    def stage(self, title: str, unit: str, total: int | None, done: int = 0) -> Iterator[Advance]:
        yield lambda count: None


UNSHOWN: StageProgress = NoStages()


class StageLines(StageProgress):
    """A log line every few seconds; none for a stage that ends before."""

    def __init__(self, seconds_between: float = _SECONDS_BETWEEN_LINES) -> None:
        self._seconds_between = seconds_between

    @contextmanager
    def stage(self, title: str, unit: str, total: int | None, done: int = 0) -> Iterator[Advance]:
        count, started = 0, time.monotonic()
        next_line = started + self._seconds_between
        prefix = f"{title}: " if title else ""

        def advance(more: int) -> None:
            nonlocal count, next_line
            count += more
            now = time.monotonic()
            if now < next_line:
                return
            next_line = now + self._seconds_between
            rate = count / max(now - started, 1e-9)
            if total is None:
                logger.info("%s%d %s, %.0f %s/s", prefix, done + count, unit, rate, unit)
                return
            left = (total - done - count) / rate if rate else 0.0
            share = 100 * (done + count) // max(total, 1)
            logger.info(
                "%s%d of %d %s (%d%%), %.*f %s/s, %.0f s left",
                prefix, done + count, total, unit, share, 0 if rate >= 1 else 3, rate, unit, left,
            )  # fmt: skip

        yield advance


class StageBars(StageProgress):
    """A bar with the rate and the time that remains, as long as the stage lasts."""

    @contextmanager
    def stage(self, title: str, unit: str, total: int | None, done: int = 0) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}, {{task.fields[rate]}} {unit}/s, ETA", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        task, count, started = bar.add_task(title, total=total, completed=done, rate="0"), 0, time.monotonic()

        def advance(more: int) -> None:
            nonlocal count
            count += more
            rate = count / max(time.monotonic() - started, 1e-9)
            bar.update(task, advance=more, rate=f"{rate:.0f}" if rate >= 1 else f"{rate:.3f}")

        with bar:
            yield advance


def stages_for_stderr() -> StageProgress:
    """Bars where stderr is a terminal, else lines."""
    return StageBars() if sys.stderr.isatty() else StageLines()
