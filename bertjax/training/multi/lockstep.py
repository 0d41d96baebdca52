"""Runs side by side: each says what it wants computed next, and one call computes it for all of them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias, TypeVar

from bertjax.batch import Batch
from bertjax.errors import UserError
from bertjax.training.step.train_step import Metrics

T = TypeVar("T")

# A run: it yields the batch of each step, is sent the step's metrics, and returns what it leaves.
Steps: TypeAlias = Generator[Batch, Metrics, T]


def in_lockstep(
    runs: Sequence[Steps[T]], train: Callable[[Sequence[Batch | None]], Sequence[Metrics]]
) -> list[T | UserError]:
    """Takes runs to their ends, a step of each at a time.

    Args:
      runs: not yet begun.
      train: a batch for each run, None for one that has ended -> the metrics of each.

    Returns:
      What each run returns, or the mistake that ended it; the others went on.
    """
    outcomes: dict[int, T | UserError] = {}
    waiting: dict[int, Batch] = {}

    def go_on(number: int, advance: Callable[[], Batch]) -> None:
        waiting.pop(number, None)
        try:
            waiting[number] = advance()
        except StopIteration as end:
            outcomes[number] = end.value
        except UserError as mistake:
            outcomes[number] = mistake

    try:
        for number, run in enumerate(runs):
            go_on(number, partial(next, run))
        while waiting:
            metrics = train([waiting.get(number) for number in range(len(runs))])
            for number in list(waiting):
                go_on(number, partial(runs[number].send, metrics[number]))
    except BaseException as error:
        # What ends the computation ends all of them, and each has records to close.
        for run in runs:
            with suppress(BaseException):
                run.throw(error)
        raise
    return [outcomes[number] for number in range(len(runs))]
