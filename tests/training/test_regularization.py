"""R-Drop and mixout: the formulas, on the step that trains, and that a run with them is resumed to the bit."""

from dataclasses import replace

import chex
import jax
import numpy as np
import optax
import pytest

from bertjax.data.table import Table
from bertjax.errors import ConfigError, Interrupted
from bertjax.losses import cross_entropy
from bertjax.tasks import make_model
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer, Regularization
from bertjax.training.step.regularization import mixed
from bertjax.training.step.train_step import make_train_step
from tests.support.batches import EIGHT_ROWS as BATCH
from tests.support.models import TINY

KEY = jax.random.PRNGKey(3)
QUIET = replace(TINY, num_layers=1, hidden_dropout_rate=0.0, attention_dropout_rate=0.0)


def network(dropout=0.0):
    model = make_model(replace(QUIET, hidden_dropout_rate=dropout), "classification", ("a", "b", "c"))
    params = model.init(jax.random.PRNGKey(0))
    # A fresh head answers much the same to everything.
    return model, {**params, "classifier": {**params["classifier"], "w": 20 * params["classifier"]["w"]}}


def loss_and_grads(model, params, **regularizing):
    step = make_train_step(model, optax.sgd(0.1), cross_entropy, regularization=Regularization(**regularizing))
    grads, metrics = step.gradient(step.init(params, KEY), BATCH)
    return float(metrics["loss"]), grads


def test_r_drop_adds_nothing_where_two_passes_agree():
    model, params = network(dropout=0.0)
    loss, grads = loss_and_grads(model, params)
    of_two, grads_of_two = loss_and_grads(model, params, r_drop=5.0)
    assert of_two == pytest.approx(loss, rel=1e-6)
    # the sum of two halves rounds
    chex.assert_trees_all_close(grads_of_two, grads, rtol=1e-7, atol=1e-7)


def test_r_drop_is_the_mean_of_two_passes_and_their_divergence():
    model, params = network(dropout=0.5)
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, 0), i) for i in range(2)]
    logits = [np.asarray(model.apply(params, key, BATCH, deterministic=False).logits, np.float64) for key in keys]
    shares = [np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in logits]
    right = [-np.log(np.take_along_axis(p, np.asarray(BATCH.labels)[..., None], -1))[..., 0] for p in shares]
    apart = ((shares[0] - shares[1]) * (np.log(shares[0]) - np.log(shares[1]))).sum(-1) / 2
    weights = np.asarray(BATCH.example_weights)
    expected = (weights * (sum(right) / 2 + 3.0 / 2 * apart)).sum() / weights.sum()
    assert (weights * apart).sum() > 1e-3, "the passes differ"
    assert loss_and_grads(model, params, r_drop=3.0)[0] == pytest.approx(expected, rel=1e-5)


def stepped(model, params, rate, steps):
    """The step with mixout, and a state whose weights have left where they started from."""
    optimizer = make_optimizer(Optimizer("sgd", learning_rate=0.3, warmup=0.0), 100, model)
    step = make_train_step(model, optimizer, cross_entropy, regularization=Regularization(mixout=rate))
    state = step.init(params, KEY)
    for _ in range(steps):
        state, _ = step(state, BATCH)
    return step, state


def test_mixout_takes_some_weights_of_the_layers_back_and_keeps_their_mean():
    rate = 0.7
    model, params = network()
    _, state = stepped(model, params, rate, steps=5)
    path = ("bert/layer_0/output", "w")
    now, start = (np.asarray(tree[path[0]][path[1]]) for tree in (state.params, params))
    draws = [mixed(state.params, state.opt_state, jax.random.PRNGKey(i), rate) for i in range(400)]
    mixes = np.stack([draw[path[0]][path[1]] for draw in draws])
    back, kept = (start - rate * start) / (1 - rate), (now - rate * start) / (1 - rate)
    is_back, is_kept = np.isclose(mixes, back, atol=1e-6), np.isclose(mixes, kept, atol=1e-6)
    assert (is_back | is_kept).all()
    moved = np.abs(now - start) > 1e-4  # far more than the tolerance
    assert moved.sum() > 100
    assert is_back[:, moved].mean() == pytest.approx(rate, abs=0.01)  # of 40000 draws or more
    # six standard errors of a mean of so many draws
    error = np.abs(kept - back) * np.sqrt(rate * (1 - rate) / len(draws))
    assert (np.abs(mixes.mean(axis=0) - now) <= 6 * error + 1e-6).all()
    others = {module for module in state.params if not module.startswith("bert/layer_")}
    assert {"pooler", "classifier"} < others
    assert all(draws[0][module][name] is leaf for module in others for name, leaf in state.params[module].items())


def test_a_weight_that_is_taken_back_has_no_gradient():
    rate = 0.7
    model, params = network()
    step, state = stepped(model, params, rate, steps=1)
    grads, _ = step.gradient(state, BATCH)
    without = (np.asarray(grads["bert/layer_0/output"]["w"]) == 0).mean()
    assert without == pytest.approx(rate, abs=0.05)
    assert (np.asarray(grads["classifier"]["w"]) != 0).all()


@pytest.mark.parametrize("values", [{"r_drop": -1.0}, {"mixout": 1.0}, {"mixout": -0.1}])
def test_what_is_no_weight_and_no_share_is_refused(values):
    with pytest.raises(ConfigError, match="must"):
        Regularization(**values)


def test_a_run_with_both_is_resumed_to_the_bit(tiny_model, reviews, tmp_path):
    """What mixout goes back to is in the checkpoint: the weights a resumed run finds are no longer those."""
    config = FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(reviews), text=("title", "body"), label="stars"),
        epochs=2,
        max_length=48,
        batch_size=8,
        optimizer=Optimizer(learning_rate=1e-2),
        regularization=Regularization(r_drop=1.0, mixout=0.5),
    )
    whole = MemoryTracker()
    finetune(config, tmp_path / "whole", tracker=whole)
    first, second = MemoryTracker(), MemoryTracker()
    asked = iter([False] * 8 + [True])
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "run", tracker=first, should_stop=lambda: next(asked))
    finetune(config, tmp_path / "run", tracker=second, if_exists="resume")
    losses, again = (
        [(step, row["train/loss"]) for tracker in trackers for step, row in tracker.metrics if "train/grad_norm" in row]
        for trackers in ([whole], [first, second])
    )
    assert [step for step, _ in losses] == [*range(1, 13)]
    assert again == losses
