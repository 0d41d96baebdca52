"""Every head of every member gives transformers' numbers, with the bounds of BERT: forward, loss and gradients, packed
against padded, on small weights and on large ones. One head of each also in 20 steps of training."""

from dataclasses import replace
from itertools import product

import jax
import numpy as np
import pytest
import torch

from bertjax.baselines.parity.check_parity import check_parity
from bertjax.baselines.parity.checkpoint_parity import load_pair
from bertjax.batch import UNLABELLED, padded_batch
from bertjax.losses import replaced_cross_entropy
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tasks import make_model
from tests.support.members import their_model
from tests.support.parity import beyond_absolute_bounds

TASKS = ("classification", "token_classification", "question_answering", "multiple_choice", "masked_lm")
HEADS = [*product(("roberta", "distilbert", "electra", "modernbert", "mpnet"), TASKS), ("electra", "replaced_tokens")]
SIGMAS = (0.02, 0.3)


def compared(name, task, sigma, folder, **options):
    their_model(name, task, sigma, vocab_size=101).save_pretrained(folder)
    _, model, params = load_pair(str(folder), task, seed=0)
    return list(check_parity(model, params, folder, **options))


@pytest.mark.parametrize(("name", "task"), HEADS)
def test_parity_of_every_head(name, task, tmp_path):
    for sigma in SIGMAS:
        comparisons = compared(name, task, sigma, tmp_path / str(sigma), of_layouts=("packed",), trains=False)
        assert [comparison for comparison in comparisons if not comparison.holds] == []
        assert {comparison.section for comparison in comparisons} == {"forward", "loss", "gradient"}
        assert beyond_absolute_bounds(comparisons) == []


def test_parity_of_training(tmp_path):
    comparisons = compared("modernbert", "classification", 0.02, tmp_path)
    assert [comparison for comparison in comparisons if not comparison.holds] == []
    assert beyond_absolute_bounds(comparisons) == []
    assert {"sgd", "adamw"} < {comparison.section for comparison in comparisons}


def test_probabilities_of_replaced_tokens(tmp_path):
    """Of each token of ragged texts, and their loss, beside transformers in float64; with an activation that is neither
    the generator's nor the default."""
    module = their_model("electra", "replaced_tokens", sigma=0.3, hidden_act="relu").double().eval()
    module.save_pretrained(tmp_path)
    model, params = from_pretrained(tmp_path)
    rng, lengths = np.random.default_rng(0), np.array([9, 4, 7])
    ids, replaced = rng.integers(5, 320, (3, 9)), rng.integers(0, 2, (3, 9))
    mask = (np.arange(9) < lengths[:, None]).astype(np.int64)
    batch = padded_batch(mask, ids, None, np.where(mask == 1, replaced, UNLABELLED), "tokens")
    output = model.apply(params, None, batch)
    with torch.no_grad():
        theirs = module(*map(torch.tensor, (ids, mask)), labels=torch.tensor(replaced))
    probabilities = np.asarray(jax.nn.sigmoid(output.logits))
    assert probabilities.shape == (3, 9)
    assert np.abs(probabilities - theirs.logits.sigmoid().numpy())[mask == 1].max() <= 1e-5
    loss = (replaced_cross_entropy(output, batch) * batch.example_weights).sum() / batch.example_weights.sum()
    assert float(loss) == pytest.approx(theirs.loss.item(), abs=1e-5)


@pytest.fixture(scope="module")
def modern(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modern")
    module = their_model("modernbert", "token_classification", 0.3, max_position_embeddings=2048)
    module.save_pretrained(folder)
    return (*from_pretrained(folder), module.eval())


def errors(model, params, module, length):
    """Of the logits of each token of a random text."""
    ids = np.random.default_rng(0).integers(5, 320, (1, length))
    ours = jax.jit(lambda params, batch: model.apply(params, None, batch))(params, padded_batch(np.ones_like(ids), ids))
    with torch.no_grad():
        return np.abs(np.asarray(ours.logits) - module(torch.tensor(ids)).logits.numpy())


@pytest.mark.parametrize("length", [2, 64, 2048])
def test_rotary_positions_and_windows_at_any_length(modern, length):
    """Long texts, whose angles are large and of which a local layer sees a hundredth, in blocks."""
    assert errors(*modern, length).max() <= 1e-5


def test_a_wrong_setting_breaks_parity(modern):
    model, params, module = modern
    rotary = model.config.rotary
    for wrong in (replace(rotary, window=rotary.window + 1), replace(rotary, base=1e4), replace(rotary, local_base=9e3),
                  replace(rotary, local=(True, False))):  # fmt: skip
        other = make_model(replace(model.config, rotary=wrong), "token_classification", model.labels)
        assert errors(other, params, module, 64).max() > 1e-5, wrong
