"""Rows for added tokens: where transformers' `resize_token_embeddings` puts them, and everything else as it was."""

import jax
import ml_dtypes
import numpy as np
import pytest
import torch

from bertjax.members.original_bert import BERT
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.pretrained.convert import to_hugging_face
from bertjax.pretrained.grow import with_vocabulary
from bertjax.tasks import make_model
from tests.support.models import TINY

WORDS, BIAS, DECODER = (
    "bert.embeddings.word_embeddings.weight",
    "cls.predictions.bias",
    "cls.predictions.decoder.weight",
)
OLD, NEW = TINY.vocab_size, TINY.vocab_size + 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A masked-LM model whose bias is not all zero."""
    model = make_model(TINY, "masked_lm")
    params = model.init(jax.random.PRNGKey(0))
    params["masked_lm"] = {"b": np.linspace(-1, 2, OLD, dtype=np.float32)}
    return save_pretrained(tmp_path_factory.mktemp("model") / "masked_lm", model, params)


def test_new_rows_are_those_of_transformers(folder):
    """But for noise: the standard deviation of a row's is 3e-5 of that of the old rows."""
    from transformers import BertForMaskedLM

    theirs = BertForMaskedLM.from_pretrained(folder)
    theirs.resize_token_embeddings(NEW)
    reference = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    model, params = from_pretrained(folder, vocab_size=NEW)
    ours = to_hugging_face(params, BERT.weights)
    spread = ours[WORDS][:OLD].std(0)
    assert model.config.vocab_size == theirs.config.vocab_size == NEW
    for name in ours:
        np.testing.assert_allclose(ours[name], reference[name], atol=1e-3 * spread.max() if name == WORDS else 0)
    np.testing.assert_array_equal(reference[DECODER], reference[WORDS])
    assert (np.abs(ours[WORDS][OLD:] - ours[WORDS][:OLD].mean(0)) < 1e-3 * spread).all()
    assert len(np.unique(ours[WORDS][OLD:], axis=0)) == NEW - OLD


def test_the_seed_decides(folder):
    words = [from_pretrained(folder, vocab_size=NEW, seed=seed)[1]["bert/embeddings/word"] for seed in (3, 3, 4)]
    first, again, other = (table["embeddings"] for table in words)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:OLD], other[:OLD])
    assert (first[OLD:] != other[OLD:]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_every_name_and_type_of_a_table(dtype):
    """A tied tensor that is there twice stays equal, and half precision does not round the noise away."""
    table = np.random.default_rng(0).normal(size=(8, 4)).astype(dtype)
    stored = {"embeddings.word_embeddings.weight": table, DECODER: table, BIAS: table[:, 0], "classifier.weight": table}
    grown = with_vocabulary(stored, BERT.weights, 8, 10, seed=0)
    np.testing.assert_array_equal(grown["embeddings.word_embeddings.weight"], grown[DECODER])
    np.testing.assert_array_equal(grown[DECODER][:8], table)
    assert (grown[DECODER][8] != grown[DECODER][9]).any()
    assert grown[BIAS][8:].tolist() == [0, 0]
    assert grown["classifier.weight"] is table


def test_a_table_of_another_size_is_left_to_be_reported():
    stored = {WORDS: np.zeros((9, 4), np.float32)}
    assert with_vocabulary(stored, BERT.weights, 8, 10, seed=0)[WORDS].shape == (9, 4)


def test_fewer_tokens_change_nothing(folder):
    model, params = from_pretrained(folder, vocab_size=3)
    assert model.config.vocab_size == OLD
    assert torch.tensor(params["bert/embeddings/word"]["embeddings"]).shape == (OLD, TINY.hidden_size)
