"""Every head gives the numbers of transformers' own, from transformers' own checkpoint, and goes back to it."""

import jax
import numpy as np
import pytest
import torch
import transformers

from bertjax.baselines.parity.check_parity import check_parity, vanishing_gradients
from bertjax.baselines.parity.checkpoint_parity import load_pair
from bertjax.errors import CheckpointError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.model_card import auto_class
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import TASKS, make_model
from tests.support.models import SMALL
from tests.support.parity import beyond_absolute_bounds


def same(left, right) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, left, right))


def test_parity_of_every_head(their_checkpoint):
    """Forward, loss, gradients, and 20 steps of SGD and AdamW, padded and packed."""
    task, folder = their_checkpoint
    _, model, params = load_pair(str(folder), task, seed=0)
    comparisons = list(check_parity(model, params, folder))
    broken = [comparison for comparison in comparisons if not comparison.holds]
    assert not broken
    assert not beyond_absolute_bounds(comparisons)
    sections = {comparison.section for comparison in comparisons}
    assert sections == ({"forward"} if task == "encoder" else {"forward", "loss", "gradient", "sgd", "adamw"})
    names = {comparison.name for comparison in comparisons}
    if sections > {"gradient"}:
        assert len([c for c in comparisons if c.section == "gradient" and c.layout == "packed"]) == sum(
            len(leaves) for leaves in params.values()
        )
    else:
        assert "layer 2" in names


def test_parity_of_a_model_that_is_sure_and_wrong(tmp_path):
    """A fine-tuned model on random texts: logits of 10 and more, and steps that would multiply rounding unclipped."""
    model = make_model(SMALL, "classification", ("no", "maybe", "yes"))
    params = dict(model.init(jax.random.PRNGKey(0)))
    params["classifier"] = {**params["classifier"], "w": params["classifier"]["w"] * 3000}
    folder = save_pretrained(tmp_path / "sure", model, params)
    comparisons = list(check_parity(model, params, folder))
    assert not [comparison for comparison in comparisons if not comparison.holds]
    (loss,) = [c for c in comparisons if (c.section, c.layout) == ("loss", "padded")]
    assert loss.bound > 1e-5


def test_the_task_of_a_checkpoint_is_read_off_its_class(their_checkpoint):
    task, folder = their_checkpoint
    model, _ = from_pretrained(folder)
    # A sentence encoder is a bare encoder to transformers, which leaves the pooling to its user.
    assert model.task == ("encoder" if task == "sentence_embedding" else task)
    assert model.labels == (("no", "maybe", "yes") if TASKS[task].names else ())


def test_load_export_load_is_bitwise_the_same_and_transformers_misses_nothing(their_checkpoint, tmp_path):
    task, folder = their_checkpoint
    model, params = from_pretrained(folder, task)
    exported = save_pretrained(tmp_path / "exported", model, params)
    again, loaded = from_pretrained(exported)
    assert again.task == task
    assert same(loaded, params)

    auto = getattr(transformers, auto_class(model))
    theirs, info = auto.from_pretrained(exported, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    original = auto.from_pretrained(folder).state_dict()
    for name, tensor in theirs.state_dict().items():
        if task == "sentence_embedding" and name.startswith("pooler."):
            assert not tensor.any()  # is not read, and says so
        else:
            assert torch.equal(tensor, original[name]), name


def test_a_wrong_number_is_found_where_it_is(their_checkpoint):
    """Parity names the first layer that departs."""
    task, folder = their_checkpoint
    _, model, params = load_pair(str(folder), task, seed=0)
    key = "bert/layer_1/attention/key"
    wrong = {**params, key: {**params[key], "w": params[key]["w"].T}}
    first = next(comparison for comparison in check_parity(model, wrong, folder) if not comparison.holds)
    assert (first.section, first.layout, first.name) == ("forward", "padded", "layer 1 attention")


def test_an_untied_decoder_is_refused(tmp_path):
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        tie_word_embeddings=False,
    )  # fmt: skip
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"cls.predictions.decoder.weight differs from bert.embeddings"):
        from_pretrained(tmp_path)
    model, _ = from_pretrained(tmp_path, drop=["cls.predictions.decoder.*"])
    assert model.task == "masked_lm"


def test_vanishing_gradients_are_few_and_named():
    key, query, span, score = (
        "bert.encoder.layer.0.attention.self.key.bias",
        "bert.encoder.layer.0.attention.self.query.bias",
        "qa_outputs.bias",
        "classifier.bias",
    )
    expected = {"masked_lm": [key], "question_answering": [key, span], "multiple_choice": [key, score]}
    for task, names in expected.items():
        assert list(vanishing_gradients(make_model(SMALL, task), [key, query, span, score])) == names
