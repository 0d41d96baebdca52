"""Every head of every member gives transformers' numbers, with the bounds of BERT: forward, loss and gradients, packed
against padded, on small weights and on large ones. One head of each also in 20 steps of training."""

import jax
import numpy as np
import pytest
import torch

from bertjax.baselines.parity.check_parity import check_parity
from bertjax.baselines.parity.checkpoint_parity import load_pair
from bertjax.batch import padded_batch
from bertjax.model_folder import from_pretrained
from tests.support.members import their_model
from tests.support.parity import beyond_absolute_bounds

TASKS = ("classification", "token_classification", "question_answering", "multiple_choice", "masked_lm")
SIGMAS = (0.02, 0.3)


def compared(name, task, sigma, folder, **options):
    their_model(name, task, sigma, vocab_size=101).save_pretrained(folder)
    _, model, params = load_pair(str(folder), task, seed=0)
    return list(check_parity(model, params, folder, **options))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["roberta", "distilbert", "electra", "modernbert", "mpnet"])
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


@pytest.fixture(scope="module")
def modern(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modern")
    module = their_model("modernbert", "encoder", 0.3, max_position_embeddings=2048)
    module.save_pretrained(folder)
    return (*from_pretrained(folder), module.eval())


@pytest.mark.parametrize("length", [2, 64, 2048])
def test_rotary_positions_and_windows_at_any_length(modern, length):
    """Long texts, whose angles are large and of which a local layer sees a hundredth."""
    model, params, module = modern
    ids = np.random.default_rng(0).integers(5, 320, (1, length))
    apply = jax.jit(lambda params, batch: model.apply(params, None, batch))
    ours = apply(params, padded_batch(np.ones_like(ids), ids))
    with torch.no_grad():
        theirs = module(torch.tensor(ids)).last_hidden_state[:, 0].numpy()
    assert np.abs(np.asarray(ours.pooled_output)[:, 0] - theirs).max() <= 1e-5


def test_a_wrong_setting_breaks_parity(modern):
    from dataclasses import replace

    from bertjax.tasks import make_model

    model, params, module = modern
    ids = np.random.default_rng(0).integers(5, 320, (1, 64))
    with torch.no_grad():
        theirs = module(torch.tensor(ids)).last_hidden_state[:, 0].numpy()
    rotary = model.config.rotary
    for wrong in (replace(rotary, window=rotary.window + 1), replace(rotary, base=1e4), replace(rotary, local_base=9e3),
                  replace(rotary, local=(True, False))):  # fmt: skip
        other = make_model(replace(model.config, rotary=wrong), "encoder")
        ours = other.apply(params, None, padded_batch(np.ones_like(ids), ids), True)
        assert np.abs(np.asarray(ours.pooled_output)[:, 0] - theirs).max() > 1e-5, wrong
