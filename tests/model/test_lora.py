"""Adapters: the numbers, gradients and steps of peft's, and the answers of the plain network that they merge into."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from bertjax.batch import padded_batch
from bertjax.config import Execution
from bertjax.data.batching.packing import Layout, pack_batch
from bertjax.losses import cross_entropy
from bertjax.members import MEMBERS
from bertjax.model.lora import is_adapter, merged
from bertjax.model_folder.adapter_folder import weight_updates
from bertjax.tasks import make_model, weight_table
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.optim.param_filters import frozen_paths
from bertjax.training.settings.options import Lora
from tests.support.adapters import EVERY_LAYER, beside_peft, with_learned
from tests.support.models import TINY, network

EVERYWHERE = Lora(rank=3, alpha=6.0, targets=EVERY_LAYER)
RNG = np.random.default_rng(1)
LENGTHS = np.array([7, 3, 10, 5])
MASK = (np.arange(10) < LENGTHS[:, None]).astype(int)
TOKENS = RNG.integers(5, 60, MASK.shape) * MASK
TARGETS = RNG.integers(0, 3, 4)


def examples():
    return padded_batch(MASK, TOKENS, labels=TARGETS)


def their_inputs():
    return {"input_ids": torch.tensor(TOKENS), "attention_mask": torch.tensor(MASK), "labels": torch.tensor(TARGETS)}


def trained_part(model, params):
    """The parameters that have a gradient."""
    frozen = frozen_paths(model, ())
    kept = {
        module: {n: leaf for n, leaf in leaves.items() if f"{module}/{n}" not in frozen}
        for module, leaves in params.items()
    }
    return {module: leaves for module, leaves in kept.items() if leaves}


def loss_and_grads(model):
    """Parameters -> (loss, logits), gradients of those that are trained."""
    batch = examples()

    def loss(trained, params):
        output = model.apply({**params, **trained}, None, batch)
        return (cross_entropy(output, batch) * batch.example_weights).mean(), output.logits[:, 0]

    jitted = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return lambda params: jitted(trained_part(model, params), params)


def logits_of(model, params, batch, rng_key=None):
    """With dropout where there is a key."""
    apply = jax.jit(partial(model.apply, deterministic=rng_key is None))
    return apply(params, rng_key, jax.tree.map(jnp.asarray, batch)).logits


def matrices(model, params):
    """Name of a weight -> peft's A and B."""
    return {
        name.removesuffix(".weight"): (u.a, u.b)
        for name, u in weight_updates(model, params, weight_table(model)).items()
    }


def of_peft(theirs, read):
    """Module -> what is read of its A and B."""
    modules = {name.removeprefix("base_model.model."): module for name, module in theirs.named_modules()}
    return {
        name: tuple(read(getattr(module, side)["default"].weight).numpy() for side in ("lora_A", "lora_B"))
        for name, module in modules.items()
        if hasattr(module, "lora_A")
    }


def assert_same(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    for name, (a, b) in ours.items():
        their_a, their_b = theirs[name]
        # One adapter of query, key and value has blocks of zeros in B, where peft would learn too.
        their_b = np.where(b == 0, 0, their_b)
        for our, their in ((a, their_a), (b, their_b)):
            np.testing.assert_allclose(our, their, rtol=0, atol=tolerance * np.abs(their).max(), err_msg=name)


# XLM-R and CamemBERT are RoBERTa under other names.
@pytest.mark.parametrize("name", sorted(set(MEMBERS) - {"xlm-roberta", "camembert"}))
def test_peft_computes_the_same_from_the_adapter_that_we_write(name, tmp_path):
    model, params, theirs = beside_peft(tmp_path, name, "classification", EVERYWHERE)
    (value, ours), grads = loss_and_grads(model)(params)
    expected = theirs(**their_inputs())
    np.testing.assert_allclose(ours, expected.logits.detach().numpy(), rtol=0, atol=1e-5)
    with theirs.disable_adapter():
        assert np.abs(ours - theirs(**their_inputs()).logits.detach().numpy()).max() > 1e-2

    expected.loss.backward()
    np.testing.assert_allclose(value, expected.loss.item(), rtol=1e-5)
    assert_same(matrices(model, {**params, **grads}), of_peft(theirs, lambda weight: weight.grad), 1e-4)
    frozen = [parameter.grad for name, parameter in theirs.named_parameters() if not parameter.requires_grad]
    assert all(grad is None for grad in frozen)
    trained = sum(parameter.numel() for parameter in theirs.parameters() if parameter.requires_grad)
    blocks = sum(int((b == 0).sum()) for _, b in matrices(model, params).values())
    assert trained == sum(leaf.size for leaf in jax.tree.leaves(grads)) + blocks


def test_steps_of_gradient_descent_are_those_of_peft(tmp_path):
    model, params, theirs = beside_peft(tmp_path, "bert", "classification", Lora(rank=4, alpha=8.0))
    optimizer = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], lr=0.3)
    losses, differentiated = [], loss_and_grads(model)
    for _ in range(5):
        (value, _), grads = differentiated(params)
        moved = jax.tree.map(lambda leaf, grad: leaf - 0.3 * grad, trained_part(model, params), grads)
        params = {**params, **moved}
        optimizer.zero_grad()
        loss = theirs(**their_inputs()).loss
        loss.backward()
        optimizer.step()
        losses.append((float(value), loss.item()))
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-5)
    assert losses[-1][0] < 0.9 * losses[0][0]
    assert_same(matrices(model, params), of_peft(theirs, lambda weight: weight.detach()), 1e-4)


def test_fresh_adapters_change_nothing_and_start_as_in_torch():
    model, params = network()
    adapted, started = with_adapters(model, params, Lora(rank=16, targets=EVERY_LAYER), seed=0)
    expected = logits_of(model, params, examples())
    np.testing.assert_allclose(logits_of(adapted, started, examples()), expected, rtol=0, atol=1e-7)
    for module in filter(is_adapter, started):
        down, up = started[module]["down"], started[module]["up"]
        linear = torch.nn.Linear(len(down), 16, bias=False)  # peft resets A as torch resets this
        torch.nn.init.kaiming_uniform_(linear.weight, a=5**0.5)
        bound = len(down) ** -0.5
        assert not np.asarray(up).any()
        for values in (np.asarray(down), linear.weight.detach().numpy()):
            assert 0.97 * bound < np.abs(values).max() <= bound
            assert np.abs(values).std() == pytest.approx(bound / 12**0.5, rel=0.1)
    other = with_adapters(model, params, Lora(rank=16), seed=1)[1]
    assert not np.array_equal(other["bert/layer_0/attention/query_lora"]["down"], down)


@pytest.mark.parametrize("execution", [Execution(), Execution(layers="stacked", remat=True)])
def test_the_plain_network_of_the_merged_parameters_computes_the_same(execution):
    plain, params = network(replace(TINY, num_layers=3, initializer_range=0.2))
    model, learned = with_learned(plain, params, EVERYWHERE)
    adapters = model.config.adapters
    run = make_model(replace(model.config, execution=execution), model.task, model.labels)
    together = merged(adapters, learned)
    assert together.keys() == params.keys()
    expected = logits_of(plain, together, examples())
    np.testing.assert_allclose(logits_of(run, learned, examples()), expected, rtol=0, atol=1e-5)
    others = {module: leaves for module, leaves in learned.items() if not is_adapter(module)}
    assert np.abs(logits_of(plain, others, examples()) - expected).max() > 0.1


def test_dropout_of_an_adapter_has_the_same_mask_in_a_packed_batch():
    quiet = replace(TINY, hidden_dropout_rate=0.0, attention_dropout_rate=0.0)
    model, params = with_learned(*network(quiet), replace(EVERYWHERE, dropout=0.3))
    padded = examples()
    packed = pack_batch(padded, [[0, 1], [2, 3]], Layout(rows=2, row_length=18, slots=2), "examples")
    key = jax.random.key(0)
    dropped, of_rows = (logits_of(model, params, batch, key) for batch in (padded, packed))
    np.testing.assert_allclose(of_rows.reshape(4, 3), dropped[:, 0], rtol=0, atol=1e-5)
    assert jnp.abs(logits_of(model, params, padded) - dropped).max() > 1e-3
