"""The devices: how many there are, and which engine runs the step on them, changes the speed and nothing else."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from bertjax.devices.data_parallel import AXIS, Devices, all_devices
from bertjax.errors import BatchError
from bertjax.losses import cross_entropy
from bertjax.prediction.forward import Forward
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import make_train_step
from tests.support.batches import batches_of, make_examples
from tests.support.models import network, without_dropout

ENGINES = ("pmap", "shard_map")


def train(devices: Devices, model, params, batch_size=8, epochs=5, one_program=None):
    """A run on these devices: the loss of each step, the last state, and the logits of the last batch after it."""
    examples = make_examples()
    plan, batches = batches_of(examples, packed=True, devices=devices.count, batch_size=batch_size, epochs=epochs)
    step = make_train_step(
        model, make_optimizer(Optimizer(learning_rate=1e-3), len(batches), model), cross_entropy, AXIS
    )
    state = devices.place(step.init(params, jax.random.PRNGKey(0)))
    engine = CompiledTrainStep(devices, model, step, state, plan.empty_batches, one_program)
    losses = []
    for batch in batches:
        state, metrics = engine(state, batch)
        losses.append(float(metrics["loss"]))
    return losses, state, np.asarray(Forward(devices, model)(state.params, batches[-1]))


@cache
def trained(engine, one_program):
    """With dropout, so that they draw the same masks too."""
    return train(all_devices(engine), *network(), one_program=one_program)


@pytest.mark.parametrize("one_program", [False, True], ids=["two programs", "one program"])
def test_both_engines_compute_the_same_bits(one_program):
    """With one program a step is compiled twice here too: its bits do not depend on the compilation."""
    left, right = (trained(engine, one_program) for engine in ENGINES)
    assert left[0] == right[0]
    chex.assert_trees_all_equal(left[1:], right[1:])


def test_one_program_computes_what_two_do():
    (losses, state, logits), (losses_of_two, state_of_two, logits_of_two) = (
        trained("shard_map", one_program) for one_program in (True, False)
    )
    np.testing.assert_allclose(losses, losses_of_two, atol=1e-5)  # fused otherwise, over steps of Adam
    chex.assert_trees_all_close(state.params, state_of_two.params, atol=1e-4)
    np.testing.assert_allclose(logits, logits_of_two, atol=1e-3)


def test_one_program_continues_to_the_bit_and_takes_batches_that_are_on_the_devices():
    """The second half of a run again, from a copy on the host; its batches were placed before its first step."""
    devices, (model, params) = all_devices(), network()
    plan, batches = batches_of(make_examples(), packed=True, devices=devices.count, batch_size=8, epochs=4)
    step = make_train_step(model, make_optimizer(Optimizer(), len(batches), model), cross_entropy, AXIS)
    state = devices.place(step.init(params, jax.random.PRNGKey(0)))
    engine = CompiledTrainStep(devices, model, step, state, plan.empty_batches, one_program=True)
    middle = len(batches) // 2
    for batch in batches[:middle]:
        before, (state, _) = state, engine(state, batch)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params)), "its buffers are those of the new one"
    halfway = jax.tree.map(np.array, state)
    ends = []
    for again in (batches[middle:], list(map(engine.place, batches[middle:]))):
        state = devices.place(halfway)
        for batch in again:
            state, metrics = engine(state, batch)
        ends.append(jax.device_get((state, metrics)))
    chex.assert_trees_all_equal(*ends)
    with pytest.raises(BatchError, match="token_ids has 999999"):
        engine.place(batches[0]._replace(token_ids=np.full_like(batches[0].token_ids, 999999)))


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_come_back_in_order(engine):
    model, params = without_dropout()
    _, (batch, *_) = batches_of(make_examples(6), packed=False, batch_size=6, devices=2)
    devices = all_devices(engine)
    logits = Forward(devices, model)(devices.place(params), batch)
    np.testing.assert_allclose(logits, model.apply(params, None, batch).logits, atol=1e-6)  # fused otherwise


def test_any_number_of_devices_gives_the_same_losses():
    """On 1, 2, 4 and 8 devices of a process of its own; batches of 6 leave two of the 8 without an example.

    With dropout: an example has the same masks on whichever device it is.
    """
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    code = "import json, tests.training.test_parallel as t; print(json.dumps(t.losses_by_devices()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **flags, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, *others = json.loads(done.stdout.splitlines()[-1]).values()
    assert len(one) == 20
    assert len(others) == 5
    for losses in others:
        np.testing.assert_allclose(losses, one, atol=1e-5)  # float32 sums in another order, over 20 steps of Adam


def losses_by_devices() -> dict[str, list[float]]:
    """20 steps with dropout for each number of devices, and on the most of them with the other engine."""
    return {
        f"{engine} on {count}": train(all_devices(engine, jax.devices()[:count]), *network(), batch_size=6, epochs=4)[0]
        for engine, count in [*(("pmap", count) for count in (1, 2, 4, 8)), ("shard_map", 2), ("shard_map", 8)]
    }
