"""The devices: this file alone knows their number, and how a function runs on all of them.

Data parallel: every device has the parameters, and each takes its share of a batch's rows. With several processes the
devices are those of all of them; each runs the same program on the same batches, and feeds its devices' rows.

Two engines map a function over devices, `jax.pmap` and `jax.jit` of `jax.shard_map`; they compute the same numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bertjax.errors import ConfigError

AXIS = "device"

T = TypeVar("T")

EngineName = Literal["pmap", "shard_map"]


@dataclass(frozen=True)
class Devices:
    """Devices, and the engine that runs a function on all of them.

    Attributes:
      mesh: one axis, of all devices of all processes.
      engine: the JAX function that maps over it.
    """

    mesh: Mesh
    engine: EngineName

    @property
    def count(self) -> int:
        """A batch's rows must be a multiple of it."""
        return self.mesh.size

    @property
    def platform(self) -> str:
        """JAX's name of their kind: "cpu", "gpu" or "tpu"."""
        return self.mesh.devices.flat[0].platform

    @property
    def everywhere(self) -> NamedSharding:
        """The sharding of a copy on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def place(self, tree: Any) -> Any:
        """Copies a host pytree (a state, parameters) to every device; the same tree in every process."""
        return jax.device_put(tree, self.everywhere)

    def deal(self, batch: T) -> T:
        """The rows of a whole batch, or of any tree of rows, each on its device; a process copies only those of its
        devices."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))

        def dealt(leaf: Any) -> jax.Array:
            rows = split_rows(leaf, self.count) if self.engine == "pmap" else leaf
            return jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)

        return jax.tree.map(dealt, batch)

    def map(self, function: Callable[..., Any], summed: bool, donate: bool = False, overwrites: bool = False) -> Any:
        """`function` of (replicated values, a device's rows), compiled for (replicated values, dealt rows).

        Args:
          function: may use collectives over `AXIS`.
          summed: whether its result is the same on all devices; otherwise it has rows to `collect`.
          donate: whether the result takes the buffers of the replicated values.
          overwrites: whether there are other replicated values behind the rows, whose buffers it takes.
        """
        donated = (*((0,) if donate else ()), *((2,) if overwrites else ()))
        if self.engine == "pmap":
            axes: dict[str, Any] = {
                "in_axes": (None, 0, None) if overwrites else (None, 0),
                "out_axes": None if summed else 0,
            }
            return jax.pmap(function, AXIS, **axes, devices=list(self.mesh.devices), donate_argnums=donated)
        whole, rows = PartitionSpec(), PartitionSpec(AXIS)
        in_specs = (whole, rows, whole) if overwrites else (whole, rows)
        mapped = jax.shard_map(
            function, mesh=self.mesh, in_specs=in_specs, out_specs=whole if summed else rows, check_vma=False
        )
        return jax.jit(mapped, donate_argnums=donated)

    def collect(self, tree: Any) -> Any:
        """The rows that a mapped function returned, all of them in every process."""
        if several_processes():
            tree = multihost_utils.process_allgather(tree, tiled=True)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree) if self.engine == "pmap" else tree


def all_devices(engine: EngineName = "pmap", devices: Sequence[jax.Device] | None = None) -> Devices:
    """The devices of all processes, or those of `devices`.

    Raises:
      ConfigError: a setting of JAX forbids what bertjax does with them.
    """
    _check_jax()
    # A process's devices side by side: it then has consecutive rows.
    ordered = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Devices(Mesh(np.array(ordered), (AXIS,)), engine)


def _check_jax() -> None:
    """Checks that the user's settings of JAX let it compile ahead of time, and place numbers on a device."""
    settings: Any = jax.config
    if settings.jax_disable_jit:
        raise ConfigError(
            "JAX_DISABLE_JIT is set, and bertjax compiles its programs ahead of time; unset it (jax.debug.print and "
            "jax.debug.breakpoint work in compiled programs)"
        )
    for kind in ("", "_host_to_device", "_device_to_device", "_device_to_host"):
        guard = f"jax_transfer_guard{kind}"
        if (getattr(settings, guard) or "").startswith("disallow"):
            raise ConfigError(
                f"{guard.upper()}={getattr(settings, guard)} forbids the transfers by which JAX itself makes a key "
                f"of a seed; unset it, or set it to log"
            )


def is_first_process() -> bool:
    """Whether this process writes and records: the only one, or the first of several."""
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


def split_rows(leaf: np.ndarray, num_devices: int) -> np.ndarray:
    """[B, ...] -> [devices, B / devices, ...]."""
    return leaf.reshape(num_devices, -1, *leaf.shape[1:])
