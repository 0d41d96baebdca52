"""The training step compiled for all devices, one program for each batch shape and one for the update.

Gradients are summed over the devices. The update does not depend on the batch, so it is a jitted function of the
replicated state, compiled once. A run of one batch shape may have both in one program, which is launched once a step.

On a CPU the gradients of all steps have the same buffers, and the temporaries of all gradients the same memory. Buffers
that are allocated anew lie elsewhere each time, and leave holes in the heap or have to be cleared.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from bertjax.batch import Batch
from bertjax.devices.data_parallel import Devices
from bertjax.devices.made_once import made_once
from bertjax.devices.program_store import PROGRAMS, Compiled, mapped_program, replicated_program
from bertjax.model.inputs import check_batch
from bertjax.tasks import Model, Params
from bertjax.training.step.aot_compile import Compilations
from bertjax.training.step.freed_memory import return_freed_memory, trim_heap
from bertjax.training.step.mfu import matmul_peak, training_flops
from bertjax.training.step.reserved_memory import ReservedMemory
from bertjax.training.step.train_step import Gradient, TrainStep
from bertjax.training.step.word_gradient import gradient_shaped
from bertjax.training.train_state import Metrics, TrainState


class PlacedBatch(NamedTuple):
    """A checked batch, its rows on their devices and taught; its shape is that of its tokens on the host."""

    shape: tuple[int, ...]
    rows: Batch


class CompiledTrainStep:
    """(state, batch) -> (state, metrics) on all devices; later shapes compile behind the training of earlier ones.

    Attributes:
      devices: where it runs.
      first_step_done: `time.perf_counter()` when the first step was computed; None before.
    """

    def __init__(
        self,
        devices: Devices,
        model: Model,
        step: TrainStep,
        state: TrainState,
        batches: Sequence[Batch],
        one_program: bool | None = None,
        taught: Callable[[Batch], Batch] = lambda rows: rows,
    ):
        """Begins to compile, and returns at once.

        Args:
          model: the network, for the check of batches and its FLOPs.
          step: made with `axis_name=AXIS`.
          state: the state to train, or another one of its structure and shapes; placed on the devices.
          batches: a batch of each shape, that of the first step first; only their shapes matter.
          one_program: whether a step is one program; by default where there is one shape, but not on a CPU: it has
            nothing to launch, took 9% longer for MiniLM's step that way, and compiles two programs side by side.
          taught: rows on their devices -> the same with what a teacher says of them; several threads may call it.
        """
        self.devices = devices
        self.first_step_done: float | None = None
        self._peak: float | None = None
        self._model = model
        self._taught = taught
        self._compilations = Compilations()
        self._compiled: list[tuple[int, ...]] = []
        if one_program is None:
            one_program = len(batches) == 1 and devices.platform != "cpu"
        self._compiled_before = -1  # programs of the process, when freed memory went back
        self._reserved = ReservedMemory()
        self._spent: tuple[Params, ...] = ()  # the gradients of the step before, where the next one overwrites them
        whole: Callable[..., Any] = step if one_program else step.gradient
        if devices.platform == "cpu" and not one_program:
            self._spent, whole = (_zero_gradients(devices, step, state),), _overwriting(step.gradient)
        spent, (first, *others) = self._spent, batches
        submit = self._compilations.submit

        def program(batch: Batch) -> Compiled:
            arguments = (state, taught(devices.deal(batch)), *spent)
            made = partial(self._compiled.append, batch.token_ids.shape)
            return mapped_program(
                devices, whole, arguments, summed=True, donate=one_program, overwrites=bool(spent), made=made
            )

        self._programs = {first.token_ids.shape: submit(partial(program, first))}
        self._update = None if one_program else submit(partial(_update_program, devices, step, state))
        needed_first = (*self._programs.values(), *([] if self._update is None else [self._update]))
        for batch in others:
            self._programs[batch.token_ids.shape] = submit(partial(program, batch), after=needed_first)

    def place(self, batch: Batch) -> PlacedBatch:
        """Checks a batch, copies its rows to the devices, and has them taught; any thread may, while they compute an
        earlier one."""
        check_batch(self._model.config, batch)  # compiled code cannot
        return PlacedBatch(batch.token_ids.shape, self._taught(self.devices.deal(batch)))

    def __call__(self, state: TrainState, batch: Batch | PlacedBatch) -> tuple[TrainState, Metrics]:
        """One step; it donates the buffers of `state` to the new state."""
        placed = batch if isinstance(batch, PlacedBatch) else self.place(batch)
        self._compilations.check()
        self._measure_peak(state)
        program = self._programs[placed.shape].result()
        if self._update is None:
            state, metrics = program(state, placed.rows)
        else:
            update = self._update.result()
            self._arrange_memory(state)
            with self._reserved.watched():
                grads, loss_metrics = program(state, placed.rows, *self._spent)
            if self._reserved.lost:
                trim_heap()  # or the process would hold the hole beside the temporaries
            self._spent = (grads,) if self._spent else ()
            state, update_metrics = update(state, grads, loss_metrics["loss"], loss_metrics["squares"])
            metrics = loss_metrics | update_metrics
        if self.first_step_done is None:
            jax.block_until_ready(metrics)
            self.first_step_done = time.perf_counter()
        return state, metrics

    def mfu(self, tokens: int, pairs: int, seconds: float) -> float | None:
        """Model FLOPs utilization, as a share of the devices' measured peak; None before that is measured.

        Args:
          tokens: real tokens trained on.
          pairs: pairs of tokens that attended to each other.
          seconds: time of the training steps.
        """
        if self._peak is None or not seconds:
            return None
        return training_flops(self._model.config, tokens, pairs) / seconds / self._peak

    def _measure_peak(self, state: TrainState) -> None:
        """Once nothing compiles any more and nothing is being computed."""
        if self._peak is None and self.first_step_done is not None and self._compilations.done:
            jax.block_until_ready(state)
            self._peak = matmul_peak(tuple(self.devices.mesh.devices), self._model.config.execution)

    def _arrange_memory(self, state: TrainState) -> None:
        """On a CPU, before a gradient: room for its temporaries. Where the process has compiled anything, that memory
        goes back to the system first."""
        if self._spent and (self._compiled_before != PROGRAMS.compiled or self._reserved.lost):
            self._compiled_before = PROGRAMS.compiled
            self._reserved.release()
            return_freed_memory((state, self._spent))
            self._reserved.reserve(self._temporaries())
        if self._reserved:
            jax.block_until_ready(state)  # after which the temporaries of the step before are freed

    def _temporaries(self) -> int:
        """Bytes of the temporaries of the largest program that is ready, on all devices of this process."""
        ready: list[Any] = [future.result() for future in self._programs.values() if future.done()]
        devices = len(self.devices.mesh.local_devices)
        return devices * max(program.memory_analysis().temp_size_in_bytes for program in ready)

    def wait(self) -> None:
        """Until every shape is compiled; only a benchmark needs to."""
        self._compilations.wait()
        self._compilations.check()

    @property
    def compiles(self) -> int:
        """Batch shapes that were compiled so far; those that the process had programs for are not."""
        return len(self._compiled)

    @property
    def compile_seconds(self) -> float:
        """Time from the first program asked for to the last one ready."""
        return self._compilations.seconds

    def close(self) -> None:
        """Cancels the compilations that have not begun, and gives the memory of the steps back."""
        self._compilations.close()
        self._reserved.release()
        for leaf in jax.tree.leaves(self._spent):
            leaf.delete()
        if self._spent:
            trim_heap()
        self._spent = ()


def _zero_gradients(devices: Devices, step: TrainStep, state: TrainState) -> Params:
    """The buffers of the gradients; they are placed before anything compiles, and so lie side by side."""
    shapes = gradient_shaped(step.trainable(state.params), state.opt_state)
    return jax.tree.map(lambda leaf: devices.place(np.zeros(leaf.shape, leaf.dtype)), shapes)


@made_once
def _overwriting(gradient: Gradient) -> Callable[[TrainState, Batch, Params], tuple[Params, Metrics]]:
    """The gradient with the buffers to write it to as an argument.

    JAX drops an argument that is not read, with its buffers. The choice reads it; XLA sees that it never falls on it.
    """

    def overwriting(state: TrainState, batch: Batch, spent: Params) -> tuple[Params, Metrics]:
        grads, metrics = gradient(state, batch)
        return jax.tree.map(partial(lax.select_n, np.False_), grads, spent), metrics

    return overwriting


def _update_program(devices: Devices, step: TrainStep, state: TrainState) -> Compiled:
    """The update; it donates the state. The loss of stacked runs has their leading axis, as the state has."""
    grads, runs = gradient_shaped(step.trainable(state.params), state.opt_state), state.step.shape
    shapes = (runs, (*runs, len(jax.tree.leaves(grads))))
    loss, squares = (jax.ShapeDtypeStruct(shape, np.float32, sharding=devices.everywhere) for shape in shapes)
    return replicated_program(devices, step.update, (state, grads, loss, squares))
