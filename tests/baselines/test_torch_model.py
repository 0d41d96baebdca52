"""transformers' model on our batches: every head has the outputs and the loss of ours, in both layouts."""

from functools import partial

import chex
import jax
import numpy as np
import pytest

from bertjax.baselines.parity.random_examples import packed, random_examples
from bertjax.baselines.runners.frameworks import check_head, check_job
from bertjax.baselines.torch.padded_texts import texts_of
from bertjax.baselines.torch.torch_model import answer_with, make_module, mean_loss, params_of, predict
from bertjax.errors import ConfigError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tasks import TASKS, make_model
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Imbalance, Lora
from tests.support.members import their_model
from tests.support.models import TINY, of_a_member_with

TRAINED = [name for name, row in TASKS.items() if row.loss is not None]


@pytest.fixture(scope="module", params=TRAINED)
def pair(request):
    """Our model and transformers' with the same parameters, and one set of examples in both layouts."""
    labels = ("x",) if request.param == "regression" else ("a", "b", "c")
    model = make_model(of_a_member_with(request.param), request.param, labels if TASKS[request.param].names else ())
    params = jax.device_get(model.init(jax.random.PRNGKey(1)))
    examples = random_examples(model, count=5, longest=12, seed=2)
    layouts = {"padded": examples.batch, "packed": packed(model, [examples])[0].batch}
    return model, params, make_module(model, params), layouts


def test_every_head_gives_the_same_answers_and_the_same_loss(pair):
    model, params, module, layouts = pair
    batch = layouts["packed"]
    output = jax.jit(lambda params, batch: model.apply(params, None, batch))(params, batch)
    texts = texts_of(model, batch)
    ours = TASKS[model.task].scores(output, batch)
    theirs = predict(model, batch, partial(answer_with, module, model))
    counts = {len(texts.rows), len(texts.rows) // texts.num_texts, int(texts.attention_mask.sum())}
    for left, right in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        written = (right != 0).any(axis=tuple(range(2, right.ndim)))
        assert written.sum() in counts
        np.testing.assert_allclose(np.asarray(left)[written], right[written], atol=1e-5)  # float32, two layers

    def mean(losses, weights):
        return float((losses * weights).sum() / weights.sum())

    means = jax.tree.map(mean, TASKS[model.task].loss(output, batch), batch.example_weights)
    loss = mean_loss(module.eval(), model, batch, texts, Imbalance())
    assert loss.item() == pytest.approx(sum(jax.tree.leaves(means)), abs=1e-5)


def test_texts_are_those_of_the_batch_in_either_layout(pair):
    model, _, _, layouts = pair
    left, right = (texts_of(model, batch) for batch in layouts.values())

    def sorted_texts(texts):
        return sorted(tuple(ids[mask == 1]) for ids, mask in zip(texts.token_ids, texts.attention_mask, strict=True))

    assert sorted_texts(left) == sorted_texts(right)
    assert left.token_ids.shape[1] == 12  # the longest text, not the row


def test_parameters_come_back_as_they_went(pair):
    model, params, module, _ = pair
    chex.assert_trees_all_equal(params, params_of(module, model))


def test_a_head_that_transformers_lacks():
    with pytest.raises(ConfigError, match="BertForSequenceClassification always reads the pooler"):
        check_head(make_model(TINY, "classification", ("a", "b"), pooling="mean"))
    with pytest.raises(ConfigError, match="'encoder' trains nothing"):
        check_head(make_model(TINY, "encoder"))


def test_adapters_that_peft_does_not_have(tmp_path):
    """ModernBERT's query, key and value are one weight, which has one adapter in peft."""
    their_model("modernbert", "classification", sigma=0.1).save_pretrained(tmp_path)
    model, _ = with_adapters(*from_pretrained(tmp_path), Lora(rank=2), seed=0)
    with pytest.raises(ConfigError, match=r"one adapter where modernbert has one for each part .*layer_0/attention"):
        check_job(["jax", "torch"], FineTuneConfig(), model)
    check_job(["jax"], FineTuneConfig(), model)
