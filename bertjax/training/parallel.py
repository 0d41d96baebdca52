"""The devices: the only file that knows how many there are, and how a step runs on all of them.

Data parallel: every device has the parameters, each takes its share of a batch's rows, gradients are summed. The update
sees nothing of the batch, so it is an ordinary jitted function of the replicated state. With several processes the
devices are those of all of them; each runs the same program on the same batches, and feeds its own devices' rows.

Two engines map a step over devices, `jax.pmap` and `jax.jit` of `jax.shard_map`; they compute the same numbers.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.batch import Batch
from bertjax.model.inputs import check_batch
from bertjax.tasks import TASKS, Model, Params
from bertjax.training.compiling import Compilations, Compiled
from bertjax.training.step import Metrics, TrainState, TrainStep
from bertjax.training.utilization import matmul_peak, training_flops

AXIS = "device"

EngineName = Literal["pmap", "shard_map"]


@dataclass(frozen=True)
class Devices:
    """The devices of a run, and the way to run a function on all of them.

    Attributes:
      mesh: one axis, of all devices of all processes.
      engine: what maps a function over it.
    """

    mesh: Mesh
    engine: EngineName

    @property
    def count(self) -> int:
        """A batch's rows must be a multiple of it."""
        return self.mesh.size

    @property
    def everywhere(self) -> NamedSharding:
        """A copy on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def place(self, tree: Any) -> Any:
        """Copies a host pytree (a state, parameters) to every device; the same tree in every process."""
        return jax.device_put(tree, self.everywhere)

    def deal(self, batch: Batch) -> Batch:
        """The rows of a whole batch, each on its device; a process copies those of its own devices only."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))

        def dealt(leaf: Any) -> jax.Array:
            rows = split_rows(leaf, self.count) if self.engine == "pmap" else leaf
            return jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)

        return jax.tree.map(dealt, batch)

    def map(self, function: Callable[[Any, Batch], Any], summed: bool) -> Any:
        """`function` of (what is everywhere, a device's rows), jitted for (what is everywhere, dealt rows).

        Args:
          function: may use collectives over `AXIS`.
          summed: whether its result is the same on all devices, or has rows to `collect`.
        """
        if self.engine == "pmap":
            out_axes = None if summed else 0
            return jax.pmap(function, AXIS, in_axes=(None, 0), out_axes=out_axes, devices=list(self.mesh.devices))
        specs = (PartitionSpec(), PartitionSpec(AXIS))
        mapped = jax.shard_map(
            function, mesh=self.mesh, in_specs=specs, out_specs=specs[0] if summed else specs[1], check_vma=False
        )
        return jax.jit(mapped)

    def collect(self, tree: Any) -> Any:
        """The rows that a mapped function returned, all of them in every process."""
        if several_processes():
            tree = multihost_utils.process_allgather(tree, tiled=True)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree) if self.engine == "pmap" else tree


def all_devices(engine: EngineName = "pmap", devices: Sequence[jax.Device] | None = None) -> Devices:
    """The devices of all processes, or the given ones."""
    # A process's devices side by side: it then has consecutive rows.
    ordered = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Devices(Mesh(np.array(ordered), (AXIS,)), engine)


def is_first_process() -> bool:
    """Whether this process is the one that writes and records; the only one, unless several run together."""
    return jax.process_index() == 0


def several_processes() -> bool:
    """Whether other processes share this run."""
    return jax.process_count() > 1


def from_first_process(tree: Any) -> Any:
    """The first process's tree of arrays, in every process; the others give one of the same shapes."""
    return multihost_utils.broadcast_one_to_all(tree) if several_processes() else tree


def text_from_first_process(text: str) -> str:
    """The first process's text, in every process."""
    encoded = np.frombuffer(text.encode(), np.uint8)
    length = int(from_first_process(np.int32(len(encoded))))
    return bytes(from_first_process(np.resize(encoded, length))).decode()


class Forward:
    """A forward pass on all devices: what evaluation reads of a batch. Compiles when it meets a new shape."""

    def __init__(self, devices: Devices, model: Model):
        self.devices = devices
        self._model = model
        self._compiled: dict[tuple[int, ...], Compiled] = {}

    def __call__(self, params: Params, batch: Batch) -> Any:
        """(placed parameters, batch) -> what is read of all rows (`Task.scores`), such as logits [B, E, L]."""
        check_batch(self._model.config, batch)  # compiled code cannot
        dealt = self.devices.deal(batch)
        shape = batch.token_ids.shape
        if shape not in self._compiled:
            forward = self.devices.map(_forward(self._model), summed=False)
            self._compiled[shape] = forward.lower(params, dealt).compile()
        return self.devices.collect(self._compiled[shape](params, dealt))


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


def _forward(model: Model) -> Callable[[Params, Batch], Any]:
    scores = TASKS[model.task].scores
    return lambda params, batch: scores(model.apply(params, None, batch, deterministic=True), batch)


def split_rows(leaf: np.ndarray, num_devices: int) -> np.ndarray:
    """[B, ...] -> [devices, B / devices, ...]."""
    return leaf.reshape(num_devices, -1, *leaf.shape[1:])
