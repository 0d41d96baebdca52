"""The training step compiled for all devices.

Gradients are summed over devices. The update sees nothing of the batch, so it is an ordinary jitted function of the
replicated state.
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
from bertjax.prediction.forward import Forward
from bertjax.tasks import Model
from bertjax.training.step.aot_compile import Compilations
from bertjax.training.step.mfu import matmul_peak, training_flops
from bertjax.training.step.train_step import Metrics, TrainState, TrainStep


class Engine:
    """A step and a forward pass on all devices; each batch shape compiles behind the training that needs others first.

    Attributes:
      devices: what it runs on.
      predict: the forward pass.
      compiles: batch shapes that the training step is compiled for.
      first_step_done: `time.perf_counter()` when the first step had been computed; None before.
    """

    def __init__(
        self,
        devices: Devices,
        model: Model,
        step: TrainStep,
        state: TrainState,
        batches: Sequence[Batch],
    ):
        """Begins to compile, and returns at once.

        Args:
          devices: what to run on.
          model: for the forward pass.
          step: made with `axis_name=AXIS`.
          state: to train, or another one of its structure and shapes; placed.
          batches: one of each shape, the one that is needed first coming first; what they hold has no say.
        """
        self.devices, self.compiles = devices, len(batches)
        self.first_step_done: float | None = None
        self._peak: float | None = None
        self._model = model
        self._compilations = Compilations()
        self.predict = Forward(devices, model)
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

    def train(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """(state, batch) -> (state, metrics). The state's buffers are given up to the new one."""
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

    def matmul_share(self, tokens: int, pairs: int, seconds: float) -> float | None:
        """Share of the devices' measured peak that training has used; None before that is known."""
        if self._peak is None or not seconds:
            return None
        return training_flops(self._model.config, tokens, pairs) / seconds / self._peak

    def _measure_peak(self, state: TrainState) -> None:
        """Once nothing compiles any more and nothing is being computed."""
        if self._peak is None and self.first_step_done is not None and self._compilations.done:
            jax.block_until_ready(state)
            self._peak = matmul_peak(tuple(self.devices.mesh.devices), self._model.config.execution)

    def wait(self) -> None:
        """Until the step is compiled for every shape; nobody needs to, but a stopwatch does."""
        self._compilations.wait()
        self._compilations.check()

    @property
    def compile_seconds(self) -> float:
        """How long compiling the training step has taken, all shapes together."""
        return self._compilations.seconds

    def close(self) -> None:
        """Gives up compiling what has not been needed yet."""
        self._compilations.close()
