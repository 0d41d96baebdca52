"""Adapters of peft: merged as peft merges them, and refused where they are of another base or no plain LoRA."""

import json
import shutil

import jax
import numpy as np
import pytest
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file

from bertjax.errors import AssetError, CheckpointError
from bertjax.model.lora import merged
from bertjax.model_folder.adapter_folder import save_adapter
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.pretrained.files import resolve_model
from bertjax.training.settings.options import Lora
from tests.support.adapters import EVERY_LAYER, with_learned
from tests.support.members import their_model

# transformers' names of linear layers, by the kind of encoder.
THEIR_TARGETS = {"bert": ["query", "value", "dense"], "modernbert": ["Wqkv", "Wo"]}


def their_adapter(folder, member="bert", **settings):
    """A base and an adapter of it, both as transformers and peft save them; and peft's merged network."""
    base = their_model(member, "classification", sigma=0.1)
    base.save_pretrained(folder / "base")
    wanted = {"r": 3, "lora_alpha": 6, "target_modules": THEIR_TARGETS[member], "task_type": "SEQ_CLS", **settings}
    module = get_peft_model(base, LoraConfig(**wanted))
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.1)
    module.save_pretrained(folder / "adapter")
    return module.merge_and_unload()


@pytest.mark.parametrize(
    ("member", "settings"),
    [
        ("bert", {}),
        ("bert", {"use_rslora": True, "modules_to_save": ["pooler"]}),
        ("bert", {"rank_pattern": {"layer.0.attention.self.query": 5}, "alpha_pattern": {"query": 11}}),
        ("modernbert", {}),
    ],
)
def test_an_adapter_merges_as_peft_merges_it(member, settings, tmp_path):
    merged_there = their_adapter(tmp_path, member, **settings)
    merged_there.save_pretrained(tmp_path / "merged")
    model, params = from_pretrained(tmp_path / "base", adapter=tmp_path / "adapter")
    _, expected = from_pretrained(tmp_path / "merged")
    assert model.task == "classification"
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=1e-6), params, expected)
    before = from_pretrained(tmp_path / "base")[1]
    assert not np.array_equal(before["bert/layer_0/attention/query"]["w"], params["bert/layer_0/attention/query"]["w"])


@pytest.mark.parametrize(
    ("member", "task"),
    [
        ("bert", "multiple_choice"), ("distilbert", "question_answering"), ("electra", "multiple_choice"),
        ("modernbert", "token_classification"), ("roberta", "sentence_embedding"),
    ],
)  # fmt: skip
def test_what_is_written_reads_back(member, task, tmp_path):
    their_model(member, task, sigma=0.1).save_pretrained(tmp_path / "base")
    plain, params = from_pretrained(tmp_path / "base", task)
    model, learned = with_learned(plain, params, Lora(rank=3, targets=EVERY_LAYER))
    save_adapter(tmp_path / "adapter", model, learned, "some/base")
    _, again = from_pretrained(tmp_path / "base", task, pooling=plain.pooling, adapter=tmp_path / "adapter")
    expected = merged(model.config.adapters, learned)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=1e-6), again, expected)


def test_the_classes_of_an_adapter_are_counted(tmp_path):
    their_adapter(tmp_path)
    bare = their_model("bert", "sentence_embedding", sigma=0.1)
    bare.save_pretrained(tmp_path / "bare")
    model, params = from_pretrained(tmp_path / "bare", adapter=tmp_path / "adapter")
    assert (model.task, model.labels) == ("classification", ("LABEL_0", "LABEL_1", "LABEL_2"))
    names = ("no", "maybe", "yes")
    named = from_pretrained(tmp_path / "bare", labels=names, adapter=tmp_path / "adapter")
    assert named[0].labels == names
    np.testing.assert_array_equal(named[1]["classifier"]["w"], params["classifier"]["w"])


def test_no_adapter_is_written_of_a_tied_decoder(tmp_path, caplog):
    their_model("bert", "masked_lm", sigma=0.1).save_pretrained(tmp_path / "base")
    model, params = with_learned(*from_pretrained(tmp_path / "base", "masked_lm"), Lora(rank=2))
    save_adapter(tmp_path / "adapter", model, params, "some/base")
    assert "is not written: its decoder is tied to the word embeddings" in caplog.text
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 16}, r"is an adapter for another base: bert.encoder.layer.0.attention.output.dense.weight is "
                              r"\[16, 16\], expected \[32, 32\]; .*; and 8 others$"),
        ({"num_hidden_layers": 1}, "is an adapter for another base: the checkpoint has no bert.encoder.layer.1"),
    ],
)  # fmt: skip
def test_an_adapter_of_another_base_is_one_line(changes, message, tmp_path):
    their_adapter(tmp_path)
    their_model("bert", "classification", sigma=0.1, **changes).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match=message) as caught:
        from_pretrained(tmp_path / "other", adapter=tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def rewritten(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_no_plain_lora_is_refused(tmp_path):
    their_adapter(tmp_path)
    base, adapter = tmp_path / "base", tmp_path / "adapter"

    def refused(message):
        with pytest.raises(CheckpointError, match=message):
            from_pretrained(base, adapter=adapter)

    for changes, message in (
        ({"use_dora": True}, "has use_dora True, which is not supported; save an adapter of LoRA without it"),
        ({"use_dora": False, "bias": "all"}, "has bias 'all', which is not supported"),
        ({"bias": "none", "peft_type": "IA3"}, "has peft_type 'IA3'; bertjax reads 'LORA'"),
        ({"peft_type": "LORA", "lora_alpha": None}, "has lora_alpha None, which is no number"),
    ):
        rewritten(adapter, **changes)
        refused(message)
    rewritten(adapter, lora_alpha=6)
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(name for name in tensors if name.endswith("query.lora_A.weight"))
    save_file({key: value for key, value in tensors.items() if key != name}, adapter / "adapter_model.safetensors")
    refused(r"has lora_B \[32, 3\] for bert.encoder.layer.0.attention.self.query, which are no pair")
    save_file({**tensors, "words": tensors[name]}, adapter / "adapter_model.safetensors")
    refused("has the tensor words, which is not supported")
    (adapter / "adapter_model.safetensors").unlink()
    refused("adapter_model.safetensors is missing")
    with pytest.raises(AssetError, match="is an adapter and no whole model; bertjax export --model BASE --adapter"):
        resolve_model(adapter)
    shutil.rmtree(adapter)
    refused("has no adapter_config.json; an adapter is a folder that peft saved")
