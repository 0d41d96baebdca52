"""Several seeds in one program: states stacked under `jax.vmap`, each with its own batch, keys and learning rate.

The runs differ only in their seed, so one step trains all of them. Their batches are padded to a common shape: empty
rows, slots and tokens change no result, and no dropout mask either, since masks do not depend on the layout. With
several devices, each computes its share of every run.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial, reduce
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bertjax.batch import Batch, empty_batch
from bertjax.data.batching.batch_plan import Plan
from bertjax.data.batching.collate import PackedBatch
from bertjax.data.batching.packing import Layout, layout_of, widened
from bertjax.devices.made_once import made_once
from bertjax.errors import ConfigError, Diverged, UserError
from bertjax.prediction.forward import Forward
from bertjax.training.loop.fit import StepInfo
from bertjax.training.optim.trained_words import with_whole_moments
from bertjax.training.run.prepared_run import PreparedRun
from bertjax.training.run.training_session import FineTuneResult, RunContext, training_session
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import TrainStep
from bertjax.training.train_state import Metrics, TrainState


def train_stacked(runs: Sequence[PreparedRun], contexts: Sequence[RunContext]) -> list[FineTuneResult | Diverged]:
    """Trains runs that differ in their seed alone in one program, a step of each at a time.

    Args:
      runs: prepared; their states move into the stack.
      contexts: one for each run.

    Returns:
      The result of each run, or how it diverged, which leaves the others as they are.

    Raises:
      ConfigError: the devices have not the memory for so many runs.
      UserError: the first error of a run that is no divergence, such as `Interrupted`; every run has ended then.
    """
    stack, forward = Stack(runs), Forward(runs[0].devices, runs[0].prepared.model)
    with closing(stack.train_step):
        seeds: list[_StackedSeed] = []
        try:
            for number, (run, context) in enumerate(zip(runs, contexts, strict=True)):
                seeds.append(_StackedSeed(stack, number, run, context, forward))
            while any(seed.training for seed in seeds):
                metrics = stack.train([seed.batch for seed in seeds])
                for seed, metrics_of_seed in zip(seeds, metrics, strict=True):
                    if seed.training:
                        seed.end_step(metrics_of_seed)
        except BaseException as error:
            for seed in seeds:
                seed.close(error)
            raise
    for seed in seeds:
        if isinstance(seed.outcome, UserError) and not isinstance(seed.outcome, Diverged):
            raise seed.outcome
    return [seed.outcome for seed in seeds]  # type: ignore[misc]


class _StackedSeed:
    """One run of a stack: its session, its batches, and its place in the stacked state.

    Attributes:
      packed_batch: of its next step; None where the run has ended.
      outcome: its result, or the error that ended it; None while it trains.
    """

    def __init__(self, stack: "Stack", number: int, run: PreparedRun, context: RunContext, forward: Forward):
        """Opens the session and makes the first batch."""
        self._stack, self._number = stack, number
        self._step = int(run.state.step)
        read_state = partial(stack.read, number)
        self._open = ExitStack()
        self._session = self._open.enter_context(training_session(run, context, stack.train_step, forward, read_state))
        self._open.enter_context(context.progress)
        self._batches: Iterator[PackedBatch] = self._open.enter_context(run.batches(lambda made: made))
        self.packed_batch: PackedBatch | None = None
        self.outcome: FineTuneResult | UserError | None = None
        with self._ending_on_error():
            self._fetch()

    @property
    def training(self) -> bool:
        """Whether the run has a step to do."""
        return self.outcome is None

    @property
    def batch(self) -> Batch | None:
        """The batch of its next step; None where it has ended."""
        return None if self.packed_batch is None else self.packed_batch.batch

    def end_step(self, metrics: Metrics) -> None:
        """Runs the callbacks of a step, and fetches the next batch; without one, the run finishes."""
        assert self.packed_batch is not None, "the run trains"
        self._step += 1
        read_state = partial(self._stack.read, self._number)
        with self._ending_on_error():
            for callback in [callback for callback in self._session.callbacks if callback.due(self._step)]:
                info = StepInfo(self._step, read_state, metrics, self.packed_batch, self._started, self._fetched)
                state = callback(info)
                if state is not None:
                    self._stack.write(self._number, state)
            self._fetch()

    def close(self, error: BaseException | None = None) -> None:
        """Closes the session, as failed where there is an error."""
        self.packed_batch = None
        self._open.__exit__(*((None, None, None) if error is None else (type(error), error, error.__traceback__)))

    def _fetch(self) -> None:
        self._started = time.perf_counter()
        self.packed_batch = next(self._batches, None)
        self._fetched = time.perf_counter()
        if self.packed_batch is None:
            self.outcome = self._session.finish(self._stack.read(self._number))
            self.close()

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            self.outcome = error
            self.close(error)


@made_once
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
    return Layout(*map(max, zip(*layouts, strict=True)))


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
    """The states of several runs in one tree with a leading axis of runs, and the compiled step that trains them."""

    def __init__(self, runs: Sequence[PreparedRun]):
        """Begins to compile, and returns at once; takes over the states of the runs."""
        first = runs[0]
        self._plans = [run.prepared.train.plan for run in runs]
        self._kind = self._plans[0].kind
        self._num_devices, self._parts = first.devices.count, first.devices.count * first.config.accumulate
        self._devices = first.devices
        # The words that occur are others in each run.
        states = [run.state._replace(opt_state=with_whole_moments(run.state.opt_state)) for run in runs]
        self._state: TrainState = self._devices.place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
        for leaf in jax.tree.leaves([(run.state.params, run.state.opt_state) for run in runs]):
            leaf.delete()  # or each state would be in memory twice
        self.train_step = CompiledTrainStep(
            self._devices,
            first.trained,
            stacked_step(first.step, len(runs)),
            self._state,
            [merged([empty_batch(*layout, self._kind)] * len(runs), 1) for layout in joint_layouts(self._plans)],
            taught=first.prepared.taught(self._devices),  # the runs differ in their seed alone, and so have one teacher
        )
        self._unstack = partial(jax.jit(_unstack, static_argnums=0), len(runs))
        self._take, self._put = jax.jit(_take), jax.jit(_put, donate_argnums=0)

    def train(self, batches: Sequence[Batch | None]) -> list[Metrics]:
        """One step of each run on its batch, None for one that has ended; returns the metrics of each.

        Raises:
          ConfigError: the devices have not the memory for so many runs.
        """
        filled = [
            empty_batch(*plan.layouts[0], self._kind) if batch is None else batch
            for batch, plan in zip(batches, self._plans, strict=True)
        ]
        layout = joint_layout([layout_of(batch) for batch in filled])
        wide = [widened(batch, layout, self._kind, self._parts) for batch in filled]
        try:
            self._state, metrics = self.train_step(self._state, merged(wide, self._num_devices))
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
        return self._devices.place(self._take(self._state, number))

    def write(self, number: int, state: TrainState) -> None:
        """Replaces the state of one run."""
        self._state = self._devices.place(self._put(self._state, state, number))


def _unstack(count: int, tree: Any) -> list[Any]:
    return [_take(tree, number) for number in range(count)]


def _take(tree: Any, number: Any) -> Any:
    return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, number, keepdims=False), tree)


def _put(tree: Any, one: Any, number: Any) -> Any:
    return jax.tree.map(lambda leaf, new: lax.dynamic_update_index_in_dim(leaf, new, number, 0), tree, one)
