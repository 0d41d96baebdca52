"""Data parallelism: parameters are replicated on all devices, and the rows of a batch are split between them.

With several processes, all of them run the same program on the same batches, and each feeds the rows of its own
devices. Two engines map a function over the devices, `jax.pmap` and `jax.jit` of `jax.shard_map`; they compute the
same numbers.
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
    """The devices, and how a function is mapped over them.

    Attributes:
      mesh: the devices of all processes along one axis, `AXIS`.
      engine: the JAX function that maps over it.
    """

    mesh: Mesh
    engine: EngineName

    @property
    def count(self) -> int:
        """Number of devices; the rows of a batch must be a multiple of it."""
        return self.mesh.size

    @property
    def platform(self) -> str:
        """JAX's name of their kind: "cpu", "gpu" or "tpu"."""
        return self.mesh.devices.flat[0].platform

    @property
    def everywhere(self) -> NamedSharding:
        """The sharding of replicated values."""
        return NamedSharding(self.mesh, PartitionSpec())

    def place(self, tree: Any) -> Any:
        """Replicates a host pytree (a state, parameters) on every device; every process passes the same tree."""
        return jax.device_put(tree, self.everywhere)

    def deal(self, batch: T) -> T:
        """Splits the rows of a batch, or of any tree of rows, over the devices; a process copies those of its own."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))

        def dealt(leaf: Any) -> jax.Array:
            rows = split_rows(leaf, self.count) if self.engine == "pmap" else leaf
            return jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)

        return jax.tree.map(dealt, batch)

    def map(self, function: Callable[..., Any], summed: bool, donate: bool = False, overwrites: bool = False) -> Any:
        """Maps `function` of (replicated values, a device's rows) over the devices, and jits it.

        Args:
          function: may use collectives over `AXIS`.
          summed: whether its result is replicated; otherwise the result has rows, to be joined by `collect`.
          donate: whether the replicated values are donated.
          overwrites: whether there is a third argument, replicated values whose buffers are donated too.
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
        """Joins the rows that a mapped function returned; every process gets all of them."""
        if several_processes():
            tree = multihost_utils.process_allgather(tree, tiled=True)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree) if self.engine == "pmap" else tree


def all_devices(engine: EngineName = "pmap", devices: Sequence[jax.Device] | None = None) -> Devices:
    """The devices of all processes, or those of `devices`.

    Raises:
      ConfigError: a setting of JAX forbids what bertjax does with them.
    """
    _check_jax()
    # The devices of a process are adjacent, so that its rows are consecutive.
    ordered = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Devices(Mesh(np.array(ordered), (AXIS,)), engine)


def _check_jax() -> None:
    """Checks that the user's settings of JAX allow ahead-of-time compilation and implicit transfers."""
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
    """Whether this process writes files and tracks the run: the only one, or the first of several."""
    return jax.process_index() == 0


def several_processes() -> bool:
    """Whether other processes share this run."""
    return jax.process_count() > 1


def from_first_process(tree: Any) -> Any:
    """Broadcasts the first process's tree of arrays; the others pass one of the same shapes."""
    return multihost_utils.broadcast_one_to_all(tree) if several_processes() else tree


def text_from_first_process(text: str) -> str:
    """Broadcasts the first process's text."""
    encoded = np.frombuffer(text.encode(), np.uint8)
    length = int(from_first_process(np.int32(len(encoded))))
    return bytes(from_first_process(np.resize(encoded, length))).decode()


def split_rows(leaf: np.ndarray, num_devices: int) -> np.ndarray:
    """[B, ...] -> [devices, B / devices, ...]."""
    return leaf.reshape(num_devices, -1, *leaf.shape[1:])
