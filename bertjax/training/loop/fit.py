"""The training loop: one step per batch, and after each the callbacks that are due.

Steps are dispatched asynchronously. Their metrics stay on the devices until a callback reads them, so the devices
compute one step while the host prepares the next.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from bertjax.data.batching.collate import PackedBatch
from bertjax.training.train_state import Metrics, TrainState

T = TypeVar("T")


class StepInfo(NamedTuple):
    """A training step, as callbacks see it.

    Attributes:
      step: number of steps done, this one included.
      state: () -> the state after it. The next step donates its buffers: keep a copy, not a reference. It is a call
        because stacked seeds copy the state of a run out of the stack.
      metrics: of the step, on the devices; reading a value waits until the step is computed.
      packed_batch: the examples of the step.
      started: `time.perf_counter()` when the loop began to wait for the batch.
      fetched: `time.perf_counter()` when the batch was there.
    """

    step: int
    state: Callable[[], TrainState]
    metrics: Metrics
    packed_batch: PackedBatch
    started: float
    fetched: float


class Callback(Protocol):
    """Called after the steps at which it is due."""

    def due(self, step: int) -> bool:
        """Whether to call it after this step; the loop asks once per step."""
        ...

    def __call__(self, info: StepInfo) -> TrainState | None:
        """Runs after the step; returns the state to continue with, or None to keep the current one."""
        ...


def fit(
    state: TrainState,
    batches: Iterable[tuple[PackedBatch, T]],
    train_step: Callable[[TrainState, T], tuple[TrainState, Metrics]],
    callbacks: Sequence[Callback] = (),
) -> TrainState:
    """Trains on every batch.

    Args:
      state: the state before the first batch; `train_step` may donate its buffers.
      batches: pairs of a batch and the same as `train_step` takes it; training ends with them.
      train_step: (state, batch) -> (state, metrics).
      callbacks: run after each step, in this order.

    Returns:
      The state after the last batch.

    Raises:
      Whatever a callback raises, such as `Interrupted` or `Diverged`.
    """
    step, started = int(state.step), time.perf_counter()
    for packed_batch, batch in batches:
        fetched = time.perf_counter()
        state, metrics = train_step(state, batch)
        step += 1
        for callback in [callback for callback in callbacks if callback.due(step)]:
            info = StepInfo(step, partial(_identity, state), metrics, packed_batch, started, fetched)
            state = callback(info) or state
        started = time.perf_counter()
    return state


def _identity(state: TrainState) -> TrainState:
    return state
