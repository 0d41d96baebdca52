"""The contestants train on the same texts with the same maths: without dropout their losses are the same numbers."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import torch

from bertjax.baselines import run_jax, run_torch
from bertjax.baselines.contestant import Job
from bertjax.data.table import Table
from bertjax.training.config import FineTuneConfig
from bertjax.training.options import Imbalance, Optimizer
from bertjax.training.prepare import prepare

torch.set_num_threads(1)


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(reviews), text=("title", "body"), label="stars"),
        epochs=4,
        max_length=48,
        batch_size=8,
        dropout_rate=0.0,
        optimizer=Optimizer(learning_rate=1e-3),
    )


def run_both(config):
    ours = run_jax.run(Job(config, prepare(config, jax.local_device_count())))
    padded_config = replace(config, packing="off")
    return ours, run_torch.run(Job(padded_config, prepare(padded_config, 1)))


@pytest.mark.parametrize(
    "changes",
    [{}, {"freeze": ("embeddings", "layers:1")}, {"imbalance": Imbalance(("good=2",), 0.1, 2.0)}],
    ids=["plain", "frozen", "imbalance"],
)
def test_twenty_steps_without_dropout_have_the_same_losses(config, changes):
    ours, theirs = run_both(replace(config, **changes))
    assert len(ours.losses) == len(theirs.losses) == 24
    np.testing.assert_allclose(ours.losses[:20], theirs.losses[:20], atol=1e-5)  # float32 over 20 updates
    assert ours.losses[0] != pytest.approx(ours.losses[-1], abs=1e-4)  # it learns
    assert ours.speed.real_tokens == theirs.speed.real_tokens
    assert ours.speed.examples == theirs.speed.examples == 48 * 4 - 8
