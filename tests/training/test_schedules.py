"""Schedules give transformers' learning rates; the plateau lowers them as PyTorch's does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers

from bertjax.tasks import make_model
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.optim.optimizer_state import LearningRateState, find
from bertjax.training.optim.schedules import after_evaluation, learning_rate_schedule
from bertjax.training.settings.options import Optimizer
from bertjax.training.train_state import TrainState
from tests.support.models import TINY

STEPS = 20
THEIRS = {
    "linear": lambda optimizer, warmup: transformers.get_linear_schedule_with_warmup(optimizer, warmup, STEPS),
    "cosine": lambda optimizer, warmup: transformers.get_cosine_schedule_with_warmup(optimizer, warmup, STEPS),
    "constant": transformers.get_constant_schedule_with_warmup,
    "inverse_sqrt": transformers.get_inverse_sqrt_schedule,
    "polynomial": lambda optimizer, warmup: transformers.get_polynomial_decay_schedule_with_warmup(
        optimizer, warmup, STEPS, lr_end=0.1, power=3.0
    ),
}


def rates(settings, steps=STEPS):
    schedule = learning_rate_schedule(settings, steps)
    return [float(schedule(step)) for step in range(steps)]


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("name", THEIRS)
def test_equals_transformers(name, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs, expected = THEIRS[name](optimizer, warmup), []
    for _ in range(STEPS):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    final = 0.2 if name == "polynomial" else 0.0
    in_steps = Optimizer(learning_rate=0.5, schedule=name, warmup=float(warmup), power=3.0, final_share=final)
    np.testing.assert_allclose(rates(in_steps), expected, rtol=1e-5, atol=1e-7)
    in_share = Optimizer(learning_rate=0.5, schedule=name, warmup=warmup / STEPS, power=3.0, final_share=final)
    assert rates(in_share) == rates(in_steps)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_schedule_can_end_above_zero(name):
    settings = Optimizer(learning_rate=0.5, schedule=name, final_share=0.2)
    assert float(learning_rate_schedule(settings, STEPS)(STEPS)) == pytest.approx(0.1)
    assert rates(settings)[-1] > 0.1


def test_schedule_rises_and_falls_linearly():
    settings = Optimizer(learning_rate=1.0, warmup=0.2)
    expected = [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    np.testing.assert_allclose(rates(settings, 10), expected, atol=1e-6)


def test_the_learning_rate_falls_when_evaluations_get_no_better():
    """Also of a score whose negative is told; PyTorch waits for one evaluation more than `patience`.

    The compiled step refuses a state of another structure, type or place.
    """
    settings = Optimizer(learning_rate=0.5, schedule="reduce_on_plateau", warmup=0.0, plateau_patience=2)
    model = make_model(TINY, "classification", ("a", "b"))
    optimizer = make_optimizer(settings, STEPS, model)
    params = {"classifier": {"w": jnp.zeros((2, 2))}}
    state = TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32), jnp.zeros(2, jnp.uint32))
    reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        reference, factor=0.5, patience=1, threshold=1e-4, threshold_mode="abs"
    )
    state = jax.device_put(state, jax.devices()[1])
    update = jax.jit(lambda state: optimizer.update(params, state.opt_state, params)).lower(state).compile()
    used, expected = [], []
    for score in [0.5, 0.6, 0.6, 0.6, 0.61, 0.5, 0.5, 0.5, 0.5]:
        _, opt_state = update(state)
        used.append(float(find(opt_state, LearningRateState).learning_rate))
        expected.append(reference.param_groups[0]["lr"])
        state = after_evaluation(settings, state._replace(opt_state=opt_state), -score)
        plateau.step(-score)
    assert used == expected
    assert used[-1] == 0.125


def test_other_schedules_are_indifferent_to_evaluations():
    optimizer = optax.sgd(0.1)
    params = {"classifier": {"w": jnp.zeros((2, 2))}}
    state = TrainState(params, optimizer.init(params), jnp.zeros(()), jnp.zeros(()))
    assert after_evaluation(Optimizer(), state, 1.0) is state
