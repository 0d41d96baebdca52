"""Losses: the numbers of torch's, formulas where torch has none, finite where nothing is labelled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from bertjax.baselines.torch import torch_losses
from bertjax.batch import padded_batch
from bertjax.errors import ConfigError
from bertjax.losses import cross_entropy, divergence, imbalanced_cross_entropy, span_cross_entropy
from bertjax.model.heads import BertOutput
from bertjax.settings import override
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Imbalance


def some(scale=3.0):
    rng = np.random.default_rng(0)
    logits = (scale * rng.normal(size=(8, 1, 4))).astype(np.float32)
    labels = rng.integers(0, 4, 8)
    batch = padded_batch(np.ones((8, 2)), np.ones((8, 2)), labels=labels)
    return BertOutput(jnp.asarray(logits), None, None, None), batch, torch.tensor(logits[:, 0]), torch.tensor(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_label_smoothing_is_that_of_torch(smoothing):
    output, batch, logits, labels = some()
    expected = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    np.testing.assert_allclose(imbalanced_cross_entropy(smoothing)(output, batch)[:, 0], expected, rtol=1e-5, atol=1e-6)


def with_probabilities(batch, shares):
    return batch._replace(labels=shares[:, None])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_label_of_probabilities_is_that_of_torch_and_a_certain_one_is_a_class(smoothing):
    output, batch, logits, labels = some()
    shares = np.random.default_rng(1).dirichlet(np.ones(4), 8).astype(np.float32)
    expected = functional.cross_entropy(logits, torch.tensor(shares), label_smoothing=smoothing, reduction="none")
    losses = (imbalanced_cross_entropy(smoothing),) if smoothing else (cross_entropy, imbalanced_cross_entropy())
    for loss in losses:
        soft = loss(output, with_probabilities(batch, shares))
        np.testing.assert_allclose(soft[:, 0], expected, rtol=1e-5, atol=1e-6)
        certain = with_probabilities(batch, np.eye(4, dtype=np.float32)[labels.numpy()])
        np.testing.assert_allclose(loss(output, certain), loss(output, batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_counterpart_in_torch_takes_probabilities(smoothing):
    output, batch, logits, _ = some()
    batch = with_probabilities(batch, np.random.default_rng(1).dirichlet(np.ones(4), 8).astype(np.float32))
    imbalance = Imbalance(label_smoothing=smoothing)
    targets = torch_losses.Targets(torch.from_numpy(batch.labels), torch.ones(8, 2), imbalance)
    theirs = torch_losses.cross_entropy(logits[:, None], targets)
    ours = imbalanced_cross_entropy(smoothing)(output, batch)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_weighs_by_what_is_missing_to_1(gamma):
    output, batch, logits, labels = some()
    of_label = logits.softmax(-1)[torch.arange(8), labels]
    expected = -((1 - of_label) ** gamma) * of_label.log()
    np.testing.assert_allclose(
        imbalanced_cross_entropy(0.0, gamma)(output, batch)[:, 0], expected, rtol=1e-4, atol=1e-6
    )


def test_the_divergence_of_two_answers_is_the_mean_of_both_of_torch():
    first, second = some()[0], some(scale=0.5)[0]
    p, q = (torch.tensor(np.array(output.logits)).log_softmax(-1) for output in (first, second))
    both = (functional.kl_div(a, b, reduction="none", log_target=True).sum(-1) for a, b in ((p, q), (q, p)))
    np.testing.assert_allclose(divergence(first, second), sum(both) / 2, rtol=1e-5)
    assert not divergence(first, first).any()


def test_without_either_it_is_cross_entropy():
    output, batch, *_ = some()
    np.testing.assert_allclose(imbalanced_cross_entropy()(output, batch), cross_entropy(output, batch), rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_certain_answer_has_a_finite_gradient(gamma):
    output, batch, *_ = some(scale=200.0)
    loss = imbalanced_cross_entropy(0.1, gamma)
    gradient = jax.grad(lambda logits: loss(output._replace(logits=logits), batch).sum())(output.logits)
    assert np.isfinite(gradient).all()


def test_class_weights_in_the_batch_are_those_of_torch():
    """The step's weighted mean is what torch's weighted cross-entropy reduces to."""
    output, batch, logits, labels = some()
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0])
    of_example = weights[labels].numpy()[:, None]
    ours = (cross_entropy(output, batch) * of_example).sum() / of_example.sum()
    np.testing.assert_allclose(ours, functional.cross_entropy(logits, labels, weight=weights), rtol=1e-5)


def test_a_span_reads_its_own_example_alone():
    """Scores of padding and of a neighbour change nothing, though transformers' softmax runs over them."""
    mask = np.array([[1, 1, 1, 0, 0]])
    batch = padded_batch(mask, mask, labels=np.array([[0, 2]]))
    logits = np.random.default_rng(0).normal(size=(1, 5, 2)).astype(np.float32)
    noisy = np.where(mask[..., None] == 1, logits, 50.0).astype(np.float32)
    losses = [span_cross_entropy(BertOutput(jnp.asarray(x), None, None, None), batch) for x in (logits, noisy)]
    np.testing.assert_array_equal(*losses)
    alone = torch.tensor(logits[0, :3].T)
    np.testing.assert_allclose(losses[0][0, 0], functional.cross_entropy(alone, torch.tensor([0, 2])), rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imbalance.label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"imbalance.focal_gamma": -1.0}, "focal_gamma must not be negative"),
        ({"imbalance.oversample": True, "imbalance.class_weights": ["balanced"]}, "give one of them"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(ConfigError, match=message):
        override(FineTuneConfig(imbalance=Imbalance()), values)
