"""Layers that look at near tokens alone, computed in blocks, against the same layers computed on whole rows."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from bertjax.config import BertConfig
from bertjax.losses import cross_entropy
from bertjax.model.attention.local_attention import blocks_save_work
from bertjax.tasks import make_model
from tests.support.batches import batches_of, make_examples

WINDOW = 4
CONFIG = BertConfig.from_hugging_face({
    "model_type": "modernbert", "vocab_size": 64, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24,
    "num_hidden_layers": 3, "layer_types": ["full_attention", *["sliding_attention"] * 2], "pad_token_id": 0,
    "local_attention": 2 * WINDOW, "max_position_embeddings": 64,
})  # fmt: skip
CONFIG = replace(CONFIG, initializer_range=0.1, attention_dropout_rate=0.2)


def whole_rows(monkeypatch):
    monkeypatch.setattr("bertjax.model.attention.self_attention.blocks_save_work", lambda window, length: False)


def run(batch, deterministic):
    """Loss, logits and gradients of a classifier, and the program that computes them."""
    model = make_model(CONFIG, "classification", ("a", "b", "c"))
    params = model.init(jax.random.PRNGKey(0))

    def loss(params):
        output = model.apply(params, jax.random.PRNGKey(1), batch, deterministic=deterministic)
        return (cross_entropy(output, batch) * batch.example_weights).sum(), output.logits

    graded = jax.value_and_grad(loss, has_aux=True)
    return jax.jit(graded)(params), str(jax.make_jaxpr(graded)(params))


@pytest.mark.parametrize(
    ("longest", "packed", "deterministic"), [(14, False, True), (46, True, True), (46, True, False)]
)
def test_blocks_change_nothing(longest, packed, deterministic, monkeypatch):
    """Neither logits, nor loss, nor gradients, nor which weights are dropped; rows need not be whole blocks."""
    batch = batches_of(make_examples(8, lengths=(3, longest)), packed)[1][0]
    rows, length = batch.token_ids.shape
    assert blocks_save_work(WINDOW, length)
    ((loss, logits), grads), program = run(batch, deterministic)
    whole_rows(monkeypatch)
    ((whole_loss, whole_logits), whole_grads), whole_program = run(batch, deterministic)

    scores = f"f32[{rows},2,{length},{length}]"  # of the first layer, which looks at every token, and of the others
    assert program.count(scores) < whole_program.count(scores)
    real = batch.example_weights > 0
    np.testing.assert_allclose(logits[real], whole_logits[real], atol=2e-6)
    np.testing.assert_allclose(loss, whole_loss, rtol=1e-5)
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, 1e-5, 5e-6), grads, whole_grads)


def test_attention_weights_and_every_token_are_those_of_whole_rows(monkeypatch):
    batch = batches_of(make_examples(8, lengths=(3, 40)), True)[1][0]
    model = make_model(CONFIG, "token_classification", ("a", "b", "c"))
    params = model.init(jax.random.PRNGKey(0))
    in_blocks = model.apply(params, None, batch)
    asked = model.apply(params, None, batch, return_attentions=True)
    length = batch.token_ids.shape[1]
    assert asked.attentions.shape[-2:] == (length, length)
    whole_rows(monkeypatch)
    whole = model.apply(params, None, batch)
    real = batch.segment_ids > 0
    np.testing.assert_allclose(in_blocks.logits[real], whole.logits[real], atol=1e-6)
    np.testing.assert_array_equal(asked.logits[real], whole.logits[real])


@pytest.mark.parametrize(
    ("window", "length", "pays"), [(64, 192, False), (64, 193, True), (4, 12, False), (0, 9, False)]
)
def test_short_rows_have_no_blocks(window, length, pays):
    assert blocks_save_work(window, length) == pays
