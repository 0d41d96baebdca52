"""Several runs in one program: states stacked under `jax.vmap`, each with its own batch, keys and learning rate.

The runs differ in their seed alone, so one step is that of all of them. Each batch is padded to the shape that holds
those of the others too: empty rows, slots and tokens change no result, and no dropout mask either, since masks hang on
places and not on shapes. On several devices each computes its share of every run.
"""

from collections.abc import Sequence
from functools import partial, reduce
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bertjax.batch import Batch, LabelKind, empty_batch
from bertjax.data.batching.batch_plan import Plan
from bertjax.data.batching.packing import Layout, layout_of, widened
from bertjax.errors import ConfigError
from bertjax.prediction.devices import Devices
from bertjax.tasks import Model
from bertjax.training.step.engine import Engine
from bertjax.training.step.train_step import Metrics, TrainState, TrainStep


def stacked_step(step: TrainStep, count: int) -> TrainStep:
    """The step of `count` runs at once.

    States, gradients and metrics have a leading axis of runs. The rows of a batch are those of the runs, as `merged`
    lays them out.
    """

    def gradient(state: TrainState, batch: Batch) -> Any:
        of_runs = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)
        return jax.vmap(step.gradient)(state, of_runs)

    return TrainStep(jax.vmap(step.init), step.trainable, gradient, jax.vmap(step.update))


def merged(batches: Sequence[Batch], num_devices: int) -> Batch:
    """Batches of one shape as one batch: each device's share of it has that of each run, one after the other."""

    def of_devices(leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(num_devices, 1, -1, *leaf.shape[1:])

    def joined(*leaves: np.ndarray) -> np.ndarray:
        shares = np.concatenate(list(map(of_devices, leaves)), axis=1)  # [devices, runs, rows, ...]
        return shares.reshape(-1, *leaves[0].shape[1:])

    return jax.tree.map(joined, *batches)


def joint_layout(layouts: Sequence[Layout]) -> Layout:
    """The smallest that holds each of them.

    >>> joint_layout([Layout(4, 30, 5), Layout(2, 32, 4)])
    Layout(rows=4, row_length=32, slots=5)
    """
    return Layout(*map(max, *layouts)) if len(layouts) > 1 else layouts[0]


def joint_layouts(plans: Sequence[Plan]) -> list[Layout]:
    """Every shape that the batches of a step can need together, the largest first.

    >>> from bertjax.data.batching.batch_plan import Plan
    >>> plans = [Plan(9, 4, 1, seed, (Layout(1 + seed, 30, 5), Layout(4, 30, 5)), True) for seed in (0, 1)]
    >>> joint_layouts(plans)
    [Layout(rows=4, row_length=30, slots=5), Layout(rows=2, row_length=30, slots=5)]
    """

    def with_next(found: set[Layout], plan: Plan) -> set[Layout]:
        return {joint_layout(pair) for pair in product(found, plan.layouts)} if found else set(plan.layouts)

    found: set[Layout] = reduce(with_next, plans, set())
    return sorted(found, key=lambda layout: (-layout.tokens, layout))


class Stack:
    """An engine that several runs share, and their states on it.

    Attributes:
      engine: of the stacked step; its forward pass is that of a single run.
    """

    def __init__(
        self,
        devices: Devices,
        model: Model,
        step: TrainStep,
        states: Sequence[TrainState],
        plans: Sequence[Plan],
        accumulate: int = 1,
    ):
        """Begins to compile, and returns at once.

        Args:
          devices: what to run on.
          model: of every run.
          step: of a single run, made with `axis_name=AXIS`; that of every run.
          states: one a run.
          plans: one a run.
          accumulate: parts that a device computes its share of a batch in.
        """
        self._plans, self._parts = plans, devices.count * accumulate
        self._state: TrainState = devices.place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
        self.engine = Engine(
            devices,
            model,
            stacked_step(step, len(states)),
            self._state,
            [merged([empty_batch(*layout, self._kind)] * len(states), 1) for layout in joint_layouts(plans)],
        )
        self._unstack = jax.jit(partial(_unstack, len(states)))
        self._take, self._put = jax.jit(_take), jax.jit(_put, donate_argnums=0)

    @property
    def seats(self) -> list["StackedSeat"]:
        """One a run."""
        return [StackedSeat(self, number) for number in range(len(self._plans))]

    def train(self, batches: Sequence[Batch | None]) -> list[Metrics]:
        """A batch for each run, None for one that has ended -> the metrics of each.

        Raises:
          ConfigError: the devices have not the memory for so many runs.
        """
        own = [
            empty_batch(*plan.layouts[0], plan.kind) if batch is None else batch
            for batch, plan in zip(batches, self._plans, strict=True)
        ]
        layout = joint_layout([layout_of(batch) for batch in own])
        wide = [widened(batch, layout, self._kind, self._parts) for batch in own]
        try:
            self._state, metrics = self.engine.train(self._state, merged(wide, self.engine.devices.count))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise ConfigError(
                f"{len(batches)} stacked seeds do not fit in the memory of the device; stack fewer and add "
                f"the others with --resume, or leave --stack-seeds out"
            ) from error
        return self._unstack(metrics)

    def read(self, number: int) -> TrainState:
        """A copy of the state of one run."""
        return self.engine.devices.place(self._take(self._state, number))

    def write(self, number: int, state: TrainState) -> None:
        """Replaces the state of one run."""
        self._state = self.engine.devices.place(self._put(self._state, state, number))

    @property
    def _kind(self) -> LabelKind:
        return self._plans[0].kind


class StackedSeat:
    """The place of one run in a stack; see `Seat`."""

    def __init__(self, stack: Stack, number: int):
        self.engine = stack.engine
        self._stack, self._number = stack, number

    @property
    def state(self) -> TrainState:
        """A copy."""
        return self._stack.read(self._number)

    @state.setter
    def state(self, state: TrainState) -> None:
        self._stack.write(self._number, state)


def _unstack(count: int, tree: Any) -> list[Any]:
    return [_take(tree, number) for number in range(count)]


def _take(tree: Any, number: Any) -> Any:
    return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, number, keepdims=False), tree)


def _put(tree: Any, one: Any, number: Any) -> Any:
    return jax.tree.map(lambda leaf, new: lax.dynamic_update_index_in_dim(leaf, new, number, 0), tree, one)
