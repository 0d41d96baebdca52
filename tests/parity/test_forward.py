"""The same weights and the same batch give PyTorch's numbers; a small mistake in the network would show."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import BertConfig as TheirConfig
from transformers import BertModel

from bertjax.batch import padded_batch
from bertjax.config import BertConfig
from bertjax.members.original_bert import BERT
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.pretrained.convert import to_haiku
from bertjax.tasks import make_model, parameter_shapes
from tests.support.models import SMALL


def ragged(vocab_size, rows=6, length=32, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, vocab_size, (rows, length))
    mask = (np.arange(length) < rng.integers(3, length + 1, rows)[:, None]).astype(int)
    types = (np.arange(length) >= rng.integers(2, length, rows)[:, None]).astype(int)
    return ids, mask, types


def theirs(model, ids, mask, types):
    """Hidden states of the embeddings and of each layer, and the pooled output."""
    with torch.no_grad():
        output = model.eval()(
            torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            token_type_ids=torch.tensor(types),
            output_hidden_states=True,
        )
    return np.stack([state.numpy() for state in output.hidden_states]), output.pooler_output.numpy()


def difference(model, params, reference_model, inputs):
    """Largest absolute error of every layer's hidden states (real tokens) and of the pooled output."""
    ids, mask, types = inputs
    output = model.apply(params, None, padded_batch(mask, ids, types), return_hidden_states=True)
    hidden, pooled = theirs(reference_model, ids, mask, types)
    return (
        np.abs(np.asarray(output.hidden_states) - hidden)[:, mask == 1].max(),
        np.abs(np.asarray(output.pooled_output)[:, 0] - pooled).max(),
    )


def test_real_weights(minilm):
    model, params = from_pretrained(minilm)
    hidden, pooled = difference(model, params, BertModel.from_pretrained(minilm), ragged(30000, rows=8, length=96))
    assert hidden <= 1e-5
    assert pooled <= 1e-5


def random_pair(sigma, ours: BertConfig = SMALL):
    """One set of random weights in both frameworks; at Hugging Face's own scale a wrong GELU would hide."""
    torch.manual_seed(0)
    reference = BertModel(TheirConfig(**SMALL.to_hugging_face()))
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(0, sigma)
    model = make_model(ours, "encoder")
    tensors = {name: tensor.numpy() for name, tensor in reference.state_dict().items()}
    return model, to_haiku(tensors, parameter_shapes(model), BERT.weights).params, reference


@pytest.mark.parametrize("sigma", [0.02, 0.3])
def test_random_weights(sigma):
    hidden, pooled = difference(*random_pair(sigma), ragged(101))
    assert hidden <= 5e-6
    assert pooled <= 5e-6


@pytest.mark.parametrize(
    "mistake", [{"hidden_act": "gelu_new"}, {"hidden_act": "relu"}, {"layer_norm_eps": 1e-5}, {"num_heads": 8}]
)
def test_a_wrong_setting_breaks_parity(mistake):
    wrong = dataclasses.replace(SMALL, **mistake)
    # An epsilon shows where activations are small, an activation function where they are large.
    assert max(difference(*random_pair(sigma, wrong), ragged(101))[0] for sigma in (0.02, 0.3)) > 1e-5


def swap(params, left, right):
    return {**params, left: params[right], right: params[left]}


def test_wrong_weights_break_parity():
    model, params, reference = random_pair(0.3)
    query, key = "bert/layer_1/attention/query", "bert/layer_1/attention/key"
    transposed = {**params, query: {**params[query], "w": params[query]["w"].T}}
    for wrong in (swap(params, query, key), transposed):
        assert difference(model, wrong, reference, ragged(101))[0] > 1e-5


def test_a_wrong_mask_breaks_parity():
    model, params, reference = random_pair(0.3)
    ids, mask, types = ragged(101)
    batch = padded_batch(np.ones_like(mask), ids, types)
    hidden = np.asarray(model.apply(params, None, batch, return_hidden_states=True).hidden_states)
    assert np.abs(hidden - theirs(reference, ids, mask, types)[0])[:, mask == 1].max() > 1e-5
