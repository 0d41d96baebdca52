"""Model folders in and out: what is loaded, what is initialised because the caller said so, what transformers reads."""

import json
import shutil

import jax
import numpy as np
import pytest

from bertjax.batch import padded_batch
from bertjax.errors import CheckpointError, ConfigError
from bertjax.model_folder import from_pretrained, save_pretrained


def same(left, right) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, left, right))


@pytest.fixture
def classifier(tiny_model, tmp_path):
    model, params = from_pretrained(tiny_model, task="classification", labels=("no", "yes"), pooling="mean", seed=3)
    return save_pretrained(tmp_path / "classifier", model, params), model, params


def test_save_and_load_is_bitwise_the_same(classifier):
    folder, model, params = classifier
    again, loaded = from_pretrained(folder)
    assert (again.task, again.labels, again.pooling, again.config) == (
        "classification", ("no", "yes"), "mean", model.config,
    )  # fmt: skip
    assert same(loaded, params)


def test_transformers_reads_the_folder_and_computes_the_same(tiny_model, tmp_path):
    import torch
    from transformers import BertForSequenceClassification

    model, params = from_pretrained(tiny_model, task="classification", labels=("no", "yes", "so"))
    folder = save_pretrained(tmp_path / "model", model, params)
    theirs, info = BertForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert theirs.config.id2label == {0: "no", 1: "yes", 2: "so"}
    ids = np.array([[2, 5, 7, 3]])
    ours = model.apply(params, None, padded_batch(np.ones_like(ids), ids)).logits[:, 0]
    with torch.no_grad():
        reference = theirs.eval()(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(ours, reference, atol=1e-6)


def test_a_head_trained_on_the_same_labels_is_kept(classifier):
    folder, _, params = classifier
    _, kept = from_pretrained(folder, task="classification", labels=("no", "yes"), seed=9)
    assert same(kept["classifier"], params["classifier"])


def test_a_head_for_other_labels_is_fresh(classifier):
    folder, _, params = classifier
    _, fresh = from_pretrained(folder, task="classification", labels=("a", "b"), seed=9)
    assert not same(fresh["classifier"], params["classifier"])
    assert same(fresh["bert/layer_0/output"], params["bert/layer_0/output"])


def test_a_missing_head_is_an_error_unless_the_caller_names_the_classes(tiny_model):
    with pytest.raises(CheckpointError, match="classifier.weight is missing"):
        from_pretrained(tiny_model, task="classification")
    model, _ = from_pretrained(tiny_model, task="classification", num_labels=4)
    assert model.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_wrong_shape_and_unknown_settings(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())

    def write(**changes):
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    write(intermediate_size=40)
    with pytest.raises(CheckpointError, match=r"intermediate.dense.weight is \[32, 16\], expected \[40, 16\]"):
        from_pretrained(folder)
    write(hidden_act="mish")
    with pytest.raises(ConfigError, match="hidden_act 'mish' is unknown"):
        from_pretrained(folder)
    write(model_type="roberta")
    with pytest.raises(ConfigError, match="model_type 'roberta' is not supported"):
        from_pretrained(folder)
    write(id2label={"1": "a", "2": "b"})
    with pytest.raises(ConfigError, match="id2label must number"):
        from_pretrained(folder, task="classification")
