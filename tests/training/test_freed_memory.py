"""On a CPU freed memory goes back to the system, arrays keep their values, and gradients their buffers."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.losses import cross_entropy
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.settings.options import Optimizer
from bertjax.training.step import compiled_step
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.freed_memory import return_freed_memory
from bertjax.training.step.train_step import make_train_step
from tests.support.batches import batches_of, make_examples
from tests.support.models import network

SIZE, COUNT = 1 << 16, 1024  # bytes of an array: below glibc's smallest `mmap_threshold`, so that it lies in the heap


def resident():
    """Bytes of this process in memory."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024


def addresses(tree):
    """Where the arrays of a tree lie on each device."""
    return [shard.data.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_holes_between_what_lives_on_are_returned():
    used = jnp.arange(1 << 20).block_until_ready()
    arrays = [np.ones(SIZE, np.uint8) for _ in range(COUNT)]
    kept = arrays[::16]
    arrays.clear()
    before = resident()
    if not return_freed_memory({"used": used, "small": jnp.ones(3), "on the host": np.ones(3)}):
        pytest.skip("no huge page can be put together here")
    assert before - resident() > SIZE * COUNT // 2
    assert all(array.all() for array in kept)
    np.testing.assert_array_equal(used, np.arange(1 << 20))


def test_nothing_is_returned_where_steps_would_become_slower():
    assert not return_freed_memory(())


@pytest.mark.parametrize("engine", ["pmap", "shard_map"])
def test_gradients_are_written_over_those_of_the_step_before(engine, monkeypatch):
    returned = []
    monkeypatch.setattr(compiled_step, "return_freed_memory", returned.append)
    devices, (model, params) = all_devices(engine), network()
    plan, batches = batches_of(make_examples(), packed=True, devices=devices.count, batch_size=8, epochs=4)
    step = make_train_step(model, make_optimizer(Optimizer(), len(batches), model), cross_entropy, AXIS)
    state = devices.place(step.init(params, jax.random.PRNGKey(0)))
    compiled = CompiledTrainStep(devices, model, step, state, plan.empty_batches)
    compiled.wait()
    state, _ = compiled(state, batches[0])  # whose buffers may be those of NumPy's zeros
    first, (spent,) = addresses(compiled._spent), compiled._spent
    for batch in batches[1:]:
        state, _ = compiled(state, batch)
    assert addresses(compiled._spent) == first
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(spent))
    assert len(returned) == 1, "nothing was compiled after the first step"
