"""Checkpoints that other programs leave: those that transformers loads give its numbers, others say what they are."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bertjax.batch import padded_batch
from bertjax.errors import UserError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from tests.support.models import TINY

IDS = np.array([[2, 5, 7, 9, 3], [2, 6, 8, 3, 0]])
MASK = (IDS != 0).astype(np.int32)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 438\n"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier of two classes with weights of a standard deviation of 0.3, which shows a wrong activation."""
    model = make_model(TINY, "classification", ("no", "yes"))
    params = jax.tree.map(lambda leaf: leaf * 15 if leaf.ndim > 1 else leaf, model.init(jax.random.PRNGKey(0)))
    return save_pretrained(tmp_path_factory.mktemp("classifier") / "model", model, params)


@pytest.fixture
def copy(classifier, tmp_path):
    return shutil.copytree(classifier, tmp_path / "model")


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def rewrite(folder, change):
    """Changes the tensors of a folder: name -> tensor."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def logits_of_transformers(folder):
    from transformers import BertForSequenceClassification

    theirs = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return theirs(torch.tensor(IDS), attention_mask=torch.tensor(MASK)).logits.numpy()


def logits_of_bertjax(folder):
    model, params = from_pretrained(folder)
    return np.asarray(model.apply(params, None, padded_batch(MASK, IDS)).logits)[:, 0]


@pytest.mark.parametrize(
    "activation",
    ["gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate",
     "quick_gelu", "relu", "silu", "swish", "tanh"],
)  # fmt: skip
def test_an_activation_by_each_name_of_transformers(copy, activation):
    """The exact GELU and its approximation by tanh differ by 7e-5 here."""
    change_config(copy, hidden_act=activation)
    np.testing.assert_allclose(logits_of_bertjax(copy), logits_of_transformers(copy), atol=5e-6)


@pytest.mark.parametrize("activation", ["mish", "relu2", "gelu_10", "laplace", "hardswish", "linear", "sigmoid"])
def test_an_activation_that_is_not_there(copy, activation):
    change_config(copy, hidden_act=activation)
    with pytest.raises(UserError, match=f"hidden_act '{activation}' is unknown; this network has gelu, gelu_python, "):
        from_pretrained(copy)


@pytest.mark.parametrize(
    ("factor", "all_exact"), [(1.0, True), (1 + 1e-12, False)], ids=["float32 in float64", "rounded"]
)
def test_float64_becomes_float32_and_says_so(copy, caplog, factor, all_exact):
    caplog.set_level(logging.INFO)
    rewrite(copy, lambda tensors: {name: tensor.double() * factor for name, tensor in tensors.items()})
    np.testing.assert_allclose(logits_of_bertjax(copy), logits_of_transformers(copy), atol=2e-5)
    stored = load_file(copy / "model.safetensors").values()
    exact = sum(torch.equal(tensor, tensor.float().double()) for tensor in stored)
    assert f"{len(stored)} tensors of float64 became float32, {exact} of them without rounding" in caplog.messages
    assert (exact == len(stored)) == all_exact


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats_have_the_numbers_of_transformers(copy, dtype):
    rewrite(copy, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
    np.testing.assert_allclose(logits_of_bertjax(copy), logits_of_transformers(copy), atol=2e-5)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (torch.int8, "is int8, expected float32, float64, float16 or bfloat16"),
        (torch.float8_e4m3fn, "model.safetensors holds numbers of type float8_e4m3fn; save the model as float32"),
    ],
    ids=["int8", "float8"],
)
def test_numbers_that_need_a_scale(copy, dtype, message):
    rewrite(copy, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
    with pytest.raises(UserError, match=message):
        from_pretrained(copy)
    change_config(copy, quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(UserError, match="quantization_config is set; bertjax reads the weights as they were before"):
        from_pretrained(copy)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_change_no_number(classifier, copy, prefix):
    rewrite(copy, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    np.testing.assert_array_equal(logits_of_bertjax(copy), logits_of_bertjax(classifier))


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_the_checkpoint_of_a_training_loop(classifier, copy, caplog, wrapper):
    """Lightning's, with what it has beside the weights."""
    caplog.set_level(logging.INFO)
    weights = {f"model.{name}": tensor for name, tensor in load_file(copy / "model.safetensors").items()}
    moments = {0: {"exp_avg": torch.zeros(2), "step": torch.tensor(3.0)}}
    (copy / "model.safetensors").unlink()
    torch.save(
        {
            "epoch": 3, "pytorch-lightning_version": "2.5.0", wrapper: weights, "loops": {"fit_loop": {"state": {}}},
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-3}]}], "hparams_name": None,
        },
        copy / "pytorch_model.bin",
    )  # fmt: skip
    np.testing.assert_array_equal(logits_of_bertjax(copy), logits_of_bertjax(classifier))
    assert f"the weights are the '{wrapper}' of a training checkpoint; the rest of it is left out" in caplog.messages
    assert "the prefix 'model.' of every tensor was left out" in caplog.messages


@pytest.mark.parametrize(
    ("heads", "task", "way_out"),
    [
        ({"qa_outputs.weight": (2, 16), "qa_outputs.bias": (2,)}, "classification", "'qa_outputs.*'"),
        ({"qa_outputs.bias": (2,), "span.weight": (1, 2)}, "classification", "'qa_outputs.*' 'span.*'"),
        ({"qa_outputs.weight": (3, 16), "qa_outputs.bias": (3,)}, "question_answering", "'qa_outputs.*'"),
        ({}, "multiple_choice", "'classifier.*'"),
    ],
    ids=["another head", "two heads", "another shape", "a classifier"],
)
def test_a_head_of_another_task_names_the_flag_that_mends_it(copy, heads, task, way_out):
    """And the flag does mend it, where a head may be new; what is missing is no reason to drop anything."""
    rewrite(copy, lambda tensors: {**tensors, **{name: torch.ones(shape) for name, shape in heads.items()}})
    if task == "question_answering":
        rewrite(copy, lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("classifier")})
    with pytest.raises(UserError) as error:
        from_pretrained(copy, task, new_head=True)
    assert str(error.value).endswith(f"with --drop {way_out}")
    drop = [pattern.strip("'") for pattern in way_out.split()]
    from_pretrained(copy, task, new_head=True, drop=drop)


def test_layers_of_the_encoder_are_never_to_be_dropped(copy):
    change_config(copy, num_hidden_layers=1)
    with pytest.raises(UserError, match=r"bert.encoder.layer.1.output.dense.weight is not expected") as error:
        from_pretrained(copy)
    assert "--drop" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (POINTER, "is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull"),
        ("", "is empty; fetch it again"),
        ("\n<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page, saved in the place of the file; fetch"),
        ("<html>Access denied</html>", "is a web page, saved in the place of the file; fetch the file itself"),
    ],
    ids=["pointer", "empty", "page", "short page"],
)
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "pytorch_model.bin", "config.json", "model.safetensors.index.json",
     "pytorch_model.bin.index.json", "shard"],
)  # fmt: skip
def test_a_file_that_is_another_says_what_it_is(copy, name, content, fault):
    if name != "config.json":
        (copy / "model.safetensors").unlink()
    if name == "shard":
        name = "model-00001-of-00001.safetensors"
        (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    (copy / name).write_text(content)
    with pytest.raises(UserError) as error:
        from_pretrained(copy)
    assert str(error.value).startswith(f"{copy / name} {fault}")
    assert "\n" not in str(error.value)
