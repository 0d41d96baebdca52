"""The devices: the only file that knows how many there are, and how a step runs on all of them.

Data parallel under `jax.pmap`: every device has the parameters, each takes its share of a batch's rows, gradients are
summed. The update sees nothing of the batch, so it is an ordinary jitted function of the replicated state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.batch import Batch
from bertjax.tasks import Model, Params
from bertjax.training.step import Metrics, TrainState, TrainStep

AXIS = "device"


class Engine(NamedTuple):
    """A step and a forward pass on all devices.

    Attributes:
      place: copies a host pytree (a state, parameters) to every device.
      train: (state, batch) -> (state, metrics); the state's buffers are given up to the new one.
      predict: (params, batch) -> [B, E, L] logits.
      num_devices: a batch's rows must be a multiple of it.
    """

    place: Callable[[Any], Any]
    train: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    predict: Callable[[Params, Batch], Any]
    num_devices: int


def num_local_devices() -> int:
    """Devices of this process that a run uses."""
    return jax.local_device_count()


def make_engine(model: Model, step: TrainStep) -> Engine:
    """Compiles, on first use of each batch shape, a step made with `axis_name=AXIS`."""
    devices = jax.local_devices()
    everywhere = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    gradient = jax.pmap(step.gradient, AXIS, in_axes=(None, 0), out_axes=None, devices=devices)
    update = jax.jit(step.update, donate_argnums=0)
    forward = jax.pmap(
        lambda params, batch: model.apply(params, None, batch, deterministic=True).logits,
        AXIS,
        in_axes=(None, 0),
        devices=devices,
    )

    def train(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, loss_metrics = gradient(state, split_rows(batch, len(devices)))
        state, update_metrics = update(state, grads)
        return state, loss_metrics | update_metrics

    def predict(params: Params, batch: Batch) -> Any:
        logits = forward(params, split_rows(batch, len(devices)))
        return logits.reshape(-1, *logits.shape[2:])

    return Engine(lambda tree: jax.device_put(tree, everywhere), train, predict, len(devices))


def split_rows(batch: Batch, num_devices: int) -> Batch:
    """[B, ...] -> [devices, B / devices, ...] for every leaf."""
    return Batch(*(leaf.reshape(num_devices, -1, *leaf.shape[1:]) for leaf in batch))
