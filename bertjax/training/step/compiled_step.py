"""The training step compiled for all devices, one program for each batch shape and one for the update.

Gradients are summed over the devices. The update does not depend on the batch, so it is a jitted function of the
replicated state, compiled once.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from bertjax.batch import Batch
from bertjax.model.inputs import check_batch
from bertjax.prediction.devices import Devices
from bertjax.tasks import Model
from bertjax.training.step.aot_compile import Compilations
from bertjax.training.step.mfu import matmul_peak, training_flops
from bertjax.training.step.train_step import TrainStep
from bertjax.training.train_state import Metrics, TrainState


class CompiledTrainStep:
    """(state, batch) -> (state, metrics) on all devices; later shapes compile behind the training of earlier ones.

    Attributes:
      devices: where it runs.
      compiles: number of batch shapes that the step is compiled for.
      first_step_done: `time.perf_counter()` when the first step was computed; None before.
    """

    def __init__(self, devices: Devices, model: Model, step: TrainStep, state: TrainState, batches: Sequence[Batch]):
        """Begins to compile, and returns at once.

        Args:
          model: the network, for the check of batches and its FLOPs.
          step: made with `axis_name=AXIS`.
          state: the state to train, or another one of its structure and shapes; placed on the devices.
          batches: a batch of each shape, that of the first step first; only their shapes matter.
        """
        self.devices, self.compiles = devices, len(batches)
        self.first_step_done: float | None = None
        self._peak: float | None = None
        self._model = model
        self._compilations = Compilations()
        gradient = devices.map(step.gradient, summed=True)
        update = jax.jit(step.update, donate_argnums=0, out_shardings=devices.everywhere)

        def lowered_gradient(batch: Batch) -> Any:
            return gradient.lower(state, devices.deal(batch))

        first, *others = batches
        submit = self._compilations.submit
        self._gradients = {first.token_ids.shape: submit(partial(lowered_gradient, first))}
        loss = jax.ShapeDtypeStruct(state.step.shape, np.float32, sharding=devices.everywhere)
        self._update = submit(lambda: update.lower(state, step.trainable(state.params), loss))
        needed_first = (self._gradients[first.token_ids.shape], self._update)
        for batch in others:
            self._gradients[batch.token_ids.shape] = submit(partial(lowered_gradient, batch), after=needed_first)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step; it donates the buffers of `state` to the new state."""
        check_batch(self._model.config, batch)  # compiled code cannot
        self._compilations.check()
        self._measure_peak(state)
        gradient = self._gradients[batch.token_ids.shape].result()
        grads, loss_metrics = gradient(state, self.devices.deal(batch))
        state, update_metrics = self._update.result()(state, grads, loss_metrics["loss"])
        if self.first_step_done is None:
            jax.block_until_ready(update_metrics)
            self.first_step_done = time.perf_counter()
        return state, loss_metrics | update_metrics

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

    def wait(self) -> None:
        """Until every shape is compiled; only a benchmark needs to."""
        self._compilations.wait()
        self._compilations.check()

    @property
    def compile_seconds(self) -> float:
        """Time from the first program asked for to the last one ready."""
        return self._compilations.seconds

    def close(self) -> None:
        """Cancels the compilations that have not begun."""
        self._compilations.close()
