"""Progress of a run: a bar on a terminal, plain lines in a log, or nothing."""

import logging
import sys
import time
from typing import Any, NamedTuple, Protocol

from bertjax.stage_progress import NoStages, StageBars, StageLines, StageProgress

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


class StepProgress(NamedTuple):
    """The figures that are shown after a step.

    Attributes:
      tokens_per_second: real tokens, without padding.
      mfu: model FLOPs utilization, as a share of the measured matmul peak; None before the peak is measured.
    """

    step: int
    total_steps: int
    epoch: int
    epochs: int
    loss: float
    examples_per_second: float
    tokens_per_second: float
    mfu: float | None

    @property
    def speed(self) -> str:
        of_peak = "" if self.mfu is None else f", {100 * self.mfu:.0f}% of matmul peak"
        return f"{self.examples_per_second:.0f} examples/s, {self.tokens_per_second:.0f} tokens/s{of_peak}"

    @property
    def line(self) -> str:
        return (
            f"epoch {self.epoch}/{self.epochs}  step {self.step}/{self.total_steps}  loss {self.loss:.4f}  {self.speed}"
        )


class Progress(StageProgress, Protocol):
    """Shows the progress of a run: the stages before it trains, and its steps; a context manager around these."""

    def __enter__(self) -> "Progress": ...

    def __exit__(self, *exception: Any) -> None:
        return

    def show(self, progress: StepProgress) -> None:
        """Shows a step."""
        return


class NoProgress(NoStages, Progress):
    """Shows nothing."""

    def __enter__(self) -> Progress:
        return self


class LineProgress(StageLines, NoProgress):
    """A log line every few seconds, and one after the last step."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def show(self, progress: StepProgress) -> None:
        now = time.monotonic()
        if now < self._next and progress.step < progress.total_steps:
            return
        self._next = now + _SECONDS_BETWEEN_LINES
        remaining = (progress.total_steps - progress.step) / progress.total_steps
        logger.info("%s  %.0f%% left", progress.line, 100 * remaining)


class BarProgress(StageBars, NoProgress):
    """A bar with loss, speed and the time that remains."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[speed]}", markup=False),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.stop()

    def show(self, progress: StepProgress) -> None:
        fields: dict[str, Any] = {
            "epoch": f"{progress.epoch}/{progress.epochs}",
            "loss": progress.loss,
            "speed": progress.speed,
        }
        if self._task is None:
            # Steps before a resume count as completed, and not towards the speed.
            self._task = self._bar.add_task("", total=progress.total_steps, completed=progress.step - 1, **fields)
        self._bar.update(self._task, completed=progress.step, **fields)


def progress_for_stderr() -> Progress:
    """A bar where stderr is a terminal, else lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()
