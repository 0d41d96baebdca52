"""The devices: the only file that knows how many there are, and how a step runs on all of them.

Data parallel under `jax.pmap`: every device has the parameters, each takes its share of a batch's rows, gradients are
summed. The update sees nothing of the batch, so it is an ordinary jitted function of the replicated state.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.batch import Batch
from bertjax.model.inputs import check_batch
from bertjax.tasks import TASKS, Model, Params
from bertjax.training.step import Metrics, TrainState, TrainStep

AXIS = "device"


class Engine(NamedTuple):
    """A step and a forward pass, compiled for all devices.

    Attributes:
      place: copies a host pytree (a state, parameters) to every device.
      train: (state, batch) -> (state, metrics), for the shapes it was compiled for; the state's buffers are given up
        to the new one.
      predict: (params, batch) -> what evaluation reads (`Task.scores`), such as logits [B, E, L]; compiles when it
        meets a new shape.
      num_devices: a batch's rows must be a multiple of it.
      compiles: batch shapes the training step was compiled for.
      compile_seconds: what that took.
    """

    place: Callable[[Any], Any]
    train: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    predict: Callable[[Params, Batch], Any]
    num_devices: int
    compiles: int
    compile_seconds: float


def num_local_devices() -> int:
    """Devices of this process that a run uses."""
    return jax.local_device_count()


def compile_engine(model: Model, step: TrainStep, state: TrainState, batches: Sequence[Batch]) -> Engine:
    """Compiles a step for the local devices, all shapes and the update side by side.

    Args:
      model: for the forward pass.
      step: made with `axis_name=AXIS`.
      state: of the structure and shapes to train, on the host.
      batches: one of each shape; what they hold has no say.
    """
    started = time.perf_counter()
    devices = jax.local_devices()
    everywhere = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())

    def place(tree: Any) -> Any:
        return jax.device_put(tree, everywhere)

    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), state)
    gradient = jax.pmap(step.gradient, AXIS, in_axes=(None, 0), out_axes=None, devices=devices)
    update = jax.jit(step.update, donate_argnums=0, out_shardings=everywhere)
    forward = jax.pmap(_forward(model), AXIS, in_axes=(None, 0), devices=devices)

    with ThreadPoolExecutor() as pool:
        gradients = {
            batch.token_ids.shape: pool.submit(_compile, gradient, abstract, split_rows(batch, len(devices)))
            for batch in batches
        }
        loss = jax.ShapeDtypeStruct((), np.float32, sharding=everywhere)
        compiled_update = pool.submit(_compile, update, abstract, step.trainable(abstract.params), loss).result()
        compiled_gradients = {shape: future.result() for shape, future in gradients.items()}

    def train(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        check_batch(model.config, batch)  # compiled code cannot
        grads, loss_metrics = compiled_gradients[batch.token_ids.shape](state, split_rows(batch, len(devices)))
        state, update_metrics = compiled_update(state, grads, loss_metrics["loss"])
        return state, loss_metrics | update_metrics

    def predict(params: Params, batch: Batch) -> Any:
        check_batch(model.config, batch)
        scores = forward(params, split_rows(batch, len(devices)))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), scores)

    return Engine(place, train, predict, len(devices), len(batches), time.perf_counter() - started)


def _compile(function: Any, *arguments: Any) -> Callable[..., Any]:
    return function.lower(*arguments).compile()


def _forward(model: Model) -> Callable[[Params, Batch], Any]:
    scores = TASKS[model.task].scores
    return lambda params, batch: scores(model.apply(params, None, batch, deterministic=True), batch)


def split_rows(batch: Batch, num_devices: int) -> Batch:
    """[B, ...] -> [devices, B / devices, ...] for every leaf."""
    return jax.tree.map(lambda leaf: leaf.reshape(num_devices, -1, *leaf.shape[1:]), batch)
