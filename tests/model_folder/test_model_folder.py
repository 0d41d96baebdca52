"""Model folders in and out: what is loaded, what is initialised because the caller said so, what transformers reads."""

import json
import resource
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest

from bertjax.batch import padded_batch
from bertjax.config import read_config_json
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.errors import CheckpointError, ConfigError, DiskError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.model_folder.stored_settings import stored_preprocessing, stored_task
from bertjax.pretrained.files import read_tensors
from bertjax.tasks import TASKS, make_model
from tests.support.models import TINY, WORDS


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


@pytest.mark.parametrize(
    ("task", "pooling", "departs"),
    [
        ("classification", "mean", True),
        ("multi_label", "cls", True),
        ("classification", "pooler", False),
        ("encoder", "mean", False),
        ("sentence_embedding", None, False),
        ("token_classification", None, False),
    ],
)
def test_a_pooling_that_transformers_does_not_have_is_told(tmp_path, caplog, task, pooling, departs):
    model = make_model(TINY, task, ("no", "yes") if TASKS[task].names else (), pooling)
    save_pretrained(tmp_path / "model", model, model.init(jax.random.PRNGKey(0)))
    assert caplog.messages == departs * [
        f"{tmp_path}/model is for bertjax alone: transformers' BertForSequenceClassification always reads the pooler, "
        f"and this model has pooling {pooling!r}"
    ]


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
    write(model_type="t5")
    with pytest.raises(ConfigError, match="model_type 't5' is not supported"):
        from_pretrained(folder)
    write(id2label={"1": "a", "2": "b"})
    with pytest.raises(ConfigError, match="id2label must number"):
        from_pretrained(folder, task="classification")


def test_a_vocabulary_that_does_not_fit_the_tokenizer(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join([*WORDS, *(f"w{i}" for i in range(40))]))
    with pytest.raises(CheckpointError, match=r"the tokenizer has 70 entries.*; classifier.bias is missing"):
        from_pretrained(folder, task="classification")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer.json is no tokenizer"):
        from_pretrained(folder)


def test_what_is_missing_is_initialised_when_named(tiny_model):
    with pytest.raises(CheckpointError, match=r"cls.predictions.bias is missing"):
        from_pretrained(tiny_model, task="masked_lm")
    model, params = from_pretrained(tiny_model, task="masked_lm", init_missing=["cls.*"], seed=4)
    assert params["masked_lm/transform"]["w"].shape == (16, 16)
    again, same_seed = from_pretrained(tiny_model, task="masked_lm", init_missing=["cls.*"], seed=4)
    assert same(params, same_seed)
    assert model.task == again.task == "masked_lm"


def test_labels_without_names_take_none(tiny_model):
    with pytest.raises(ConfigError, match="the labels of task 'question_answering' have no names"):
        from_pretrained(tiny_model, task="question_answering", num_labels=2)
    with pytest.raises(ConfigError, match="task 'next_sentence' has pooling 'pooler', not 'mean'"):
        from_pretrained(tiny_model, task="next_sentence", pooling="mean", init_missing=["cls.*"])
    with pytest.raises(ConfigError, match="task 'poetry' is unknown; there are encoder, classification"):
        from_pretrained(tiny_model, task="poetry")


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ({}, "encoder"),
        ({"architectures": ["BertForSequenceClassification"]}, "classification"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "score"}}, "regression"),
        (
            {"architectures": ["BertForSequenceClassification"], "problem_type": "multi_label_classification"},
            "multi_label",
        ),
        ({"architectures": ["BertForMaskedLM"]}, "masked_lm"),
        ({"architectures": ["BertGenerationDecoder"]}, "encoder"),
        ({"architectures": ["BertModel"], "bertjax": {"task": "sentence_embedding"}}, "sentence_embedding"),
    ],
)
def test_the_task_of_a_config(values, task):
    assert stored_task(values) == task


def test_every_way_a_checkpoint_is_stored_gives_the_same_weights(tiny_model, tmp_path):
    """One file, shards, PyTorch's own file; old names, no prefix, half precision."""
    import torch
    from safetensors.torch import save_file

    _, expected = from_pretrained(tiny_model)
    tensors = {name: torch.tensor(tensor) for name, tensor in read_tensors(tiny_model).items()}
    names = sorted(tensors)
    old = {
        name.removeprefix("bert.").replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in tensors.items()
    }

    def folder_with(name, write):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_model / file, folder)
        write(folder)
        return folder

    def shards(folder):
        halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, part in halves.items():
            save_file({name: tensors[name] for name in part}, folder / file)
        index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    folders = [
        folder_with("shards", shards),
        folder_with("old", lambda folder: save_file(old, folder / "model.safetensors")),
        folder_with("torch", lambda folder: torch.save(old, folder / "pytorch_model.bin")),
    ]
    for folder in folders:
        assert same(from_pretrained(folder)[1], expected), folder.name

    halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    folder = folder_with("half", lambda folder: save_file(halves, folder / "model.safetensors"))
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf.astype(ml_dtypes.bfloat16), np.float32), expected)
    assert same(from_pretrained(folder)[1], rounded)


def test_a_full_disk_leaves_nothing_behind(classifier, tmp_path):
    """The system's limit on the size of a file stands in for the end of a disk."""
    folder, model, params = classifier
    before = folder_content(folder)
    room = sum(len(content) for content in before.values()) // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(DiskError, match=r"classifier cannot be written: .*File too large.*; free some space, or"):
            save_pretrained(folder, model, params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert folder_content(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def folder_content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_preprocessing_is_saved_with_the_model(tiny_model, tmp_path):
    """Words of any script too; transformers reads such a folder all the same."""
    from transformers import BertForSequenceClassification

    model, params = from_pretrained(tiny_model, task="classification", labels=("no", "yes"))
    preprocessing = Preprocessing(("strip_markup", "classic", "head:200"), ("the", "don't", "का"))
    folder = save_pretrained(tmp_path / "model", model, params, preprocessing=preprocessing)
    assert stored_preprocessing(read_config_json(folder)) == preprocessing
    assert same(from_pretrained(folder)[1], params)
    _, info = BertForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_no_preprocessing_leaves_no_trace(classifier, tmp_path):
    folder, model, params = classifier
    identity = save_pretrained(tmp_path / "identity", model, params, preprocessing=Preprocessing())
    assert (identity / "config.json").read_text() == (folder / "config.json").read_text()
    assert "preprocessing" not in read_config_json(folder)["bertjax"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bertjax": {"preprocessing": ["lower"]}}, "preprocessing must hold lists of strings"),
        ({"bertjax": {"preprocessing": None}}, "preprocessing must hold lists of strings"),
        ({"bertjax": {"preprocessing": {"steps": ["stem"]}}}, "step 'stem' is unknown; bertjax has unicode_nfc, lower"),
        ({"bertjax": "lower"}, "config.json: bertjax must hold an object, got 'lower'"),
    ],
)
def test_a_config_with_malformed_preprocessing(values, message):
    with pytest.raises(ConfigError, match=message):
        stored_preprocessing(values)
    assert stored_preprocessing({"model_type": "bert"}) == Preprocessing()
