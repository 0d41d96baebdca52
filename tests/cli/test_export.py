"""`bertjax export`: a folder that transformers loads whole, tokenizer, labels and card included."""

import json
from dataclasses import replace

import chex
import jax
import pytest
import transformers

from bertjax.cli.main import main
from bertjax.model.lora import merged
from bertjax.model_folder.adapter_folder import save_adapter
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from bertjax.training.settings.options import Lora
from tests.support.adapters import with_learned
from tests.support.models import TINY
from tests.support.processes import complaint


@pytest.fixture
def classifier(tiny_model, tmp_path):
    """The model folder of a run."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    model, params = from_pretrained(tiny_model, task="classification", labels=("bad", "good"))
    folder = save_pretrained(tmp_path / "run" / "model", model, params, tokenizer)
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({"test/accuracy": 0.875, "train/seconds": 3.0}))
    return folder


def test_transformers_loads_what_export_writes(classifier, tmp_path, capsys):
    out = tmp_path / "exported"
    assert main(["export", "--model", str(classifier), "--out", str(out)]) == 0
    assert "transformers.AutoModelForSequenceClassification loads it" in capsys.readouterr().out
    theirs, info = transformers.AutoModelForSequenceClassification.from_pretrained(out, output_loading_info=True)
    assert (info["missing_keys"], info["unexpected_keys"]) == (set(), set())
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    assert theirs.config.problem_type == "single_label_classification"
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer("good film").input_ids == [2, 5, 7, 3]
    loaded, exported = from_pretrained(classifier)[1], from_pretrained(out)[1]
    chex.assert_trees_all_equal(loaded, exported)
    assert (out / "model.safetensors").stat().st_mode & 0o044 == 0o044


def test_model_card(classifier, tmp_path):
    out = tmp_path / "exported"
    main(["export", "--model", str(classifier), "--out", str(out)])
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    for part in (
        "1. good",
        "| test/accuracy | 0.875 |",
        "2 layers, hidden size 16",
        "AutoModelForSequenceClassification",
    ):
        assert part in card
    assert "train/seconds" not in card


def test_sentence_encoder_exports_its_pooling(tiny_model, tmp_path):
    out = tmp_path / "exported"
    assert main(["export", "--model", str(tiny_model), "--out", str(out), "--task", "sentence_embedding"]) == 0
    assert "mean of its tokens' hidden states, scaled to length 1" in (out / "README.md").read_text()
    theirs, info = transformers.AutoModel.from_pretrained(out, output_loading_info=True)
    assert (info["missing_keys"], info["unexpected_keys"]) == (set(), set())
    assert not theirs.pooler.dense.weight.any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "{model}"], "is the checkpoint itself"),
        (["--out", "{full}"], "is not empty; --overwrite replaces it"),
        (["--out", "{full}/file"], "is a file; give a folder"),
        (["--out", "new", "--task", "question_answering"], "qa_outputs.weight is missing"),
        (["--out", "new", "--keep-layers", "0", "2"], "layers to keep are ascending numbers from 0 to 1, got [0, 2]"),
        (["--out", "new", "--model", "nowhere/at-all"], "is no local folder"),
        ([], "out"),
    ],
)
def test_user_errors_are_one_line_and_write_nothing(tiny_model, in_folder, tmp_path_factory, capsys, flags, message):
    full = tmp_path_factory.mktemp("full")
    (full / "file").write_text("mine")
    words = [flag.format(model=tiny_model, full=full) for flag in flags]
    assert main(["export", "--model", str(tiny_model), *words]) == 2
    assert message in complaint(capsys.readouterr().err)
    assert not list(in_folder.iterdir())
    assert (full / "file").read_text() == "mine"


def test_some_layers_are_a_smaller_model(tiny_model, tmp_path):
    out = tmp_path / "student"
    assert main(["export", "--model", str(tiny_model), "--out", str(out), "--keep-layers", "1"]) == 0
    theirs, whole = (transformers.AutoModel.from_pretrained(folder) for folder in (out, tiny_model))
    assert len(theirs.encoder.layer) == 1
    chex.assert_trees_all_equal(theirs.encoder.layer[0].state_dict(), whole.encoder.layer[1].state_dict())


def test_pooling_that_transformers_lacks(tiny_model, tmp_path, capsys):
    model, params = from_pretrained(tiny_model, task="classification", num_labels=2, pooling="mean")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    folder = save_pretrained(tmp_path / "model", model, params, tokenizer)
    assert main(["export", "--model", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "always reads the pooler, and this model has pooling 'mean'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_overwrite_replaces_a_folder(tiny_model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.json").write_text("")
    assert main(["export", "--model", str(tiny_model), "--out", str(out), "--overwrite"]) == 0
    assert not (out / "old.json").exists()


@pytest.mark.parametrize("out", [".", "run", "run/"])
@pytest.mark.parametrize("command", ["export", "evaluate"])
def test_overwrite_deletes_nothing_that_the_command_does_not_write(
    tiny_model, reviews, in_folder, capsys, command, out
):
    """A run, a project, a home directory."""
    for folder in (in_folder, in_folder / "run"):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
    rows = ["--data", str(reviews)] if command == "evaluate" else []
    before = sorted(in_folder.rglob("*"))
    assert main([command, "--model", str(tiny_model), *rows, "--out", out, "--overwrite"]) == 2
    assert "holds checkpoints, which --overwrite would delete" in complaint(capsys.readouterr().err)
    assert sorted(in_folder.rglob("*")) == before


def test_an_adapter_is_merged_on_the_way_out(classifier, tmp_path, capsys):
    model, params = with_learned(*from_pretrained(classifier), Lora(rank=2))
    adapter, out = tmp_path / "adapter", tmp_path / "merged"
    save_adapter(adapter, model, params, "some/base")
    assert main(["export", "--model", str(classifier), "--adapter", str(adapter), "--out", str(out)]) == 0
    exported = from_pretrained(out)
    assert exported[0].labels == ("bad", "good")
    chex.assert_trees_all_close(exported[1], merged(model.config.adapters, params), rtol=0, atol=1e-6)
    assert "0.875" not in (out / "README.md").read_text()  # that was the score of the base
    capsys.readouterr()

    assert main(["export", "--model", str(adapter), "--out", str(tmp_path / "other")]) == 2
    assert "is an adapter and no whole model; bertjax export --model BASE" in complaint(capsys.readouterr().err)
    other = make_model(replace(TINY, num_layers=1), "encoder")
    tokenizer = transformers.AutoTokenizer.from_pretrained(classifier)
    base = save_pretrained(tmp_path / "base", other, other.init(jax.random.key(0)), tokenizer)
    assert main(["export", "--model", str(base), "--adapter", str(adapter), "--out", str(tmp_path / "other")]) == 2
    assert "is an adapter for another base (its own is some/base)" in complaint(capsys.readouterr().err)
    assert not (tmp_path / "other").exists()
