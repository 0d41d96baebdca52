"""`bertjax parity`: its table, its record, its exit status."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertjax.cli.main import main
from tests.support.processes import complaint


def test_parity_of_a_checkpoint_and_its_json(tiny_model, tmp_path, capsys):
    record = tmp_path / "parity.json"
    assert main(["parity", "--model", str(tiny_model), "--json", str(record)]) == 0
    shown = capsys.readouterr()
    assert "parity holds" in shown.out
    assert "layer 1 attention" in shown.out
    assert "key.bias: it adds one number to all scores of a query" in shown.out
    assert "task classification: bertjax against transformers' PyTorch model" in shown.err
    content = json.loads(record.read_text())
    assert content["holds"] is True
    assert content["first_departure"] is None
    assert set(content["versions"]) == {"jax", "jaxlib", "dm-haiku", "torch", "transformers"}
    gradients = [c for c in content["comparisons"] if (c["section"], c["layout"]) == ("gradient", "packed")]
    assert len(gradients) == 4 + 1 + 2 * 16 + 2 + 2  # every parameter on a line of its own
    assert len(content["vanishing_gradients"]) == 2
    assert all(np.isfinite(c["absolute"]) for c in content["comparisons"])


def test_broken_bound_is_status_1_and_names_the_layer(tiny_model, capsys):
    """bfloat16 keeps two or three digits; no bound is loosened for it. Embeddings are summed in float32."""
    assert main(["parity", "--model", str(tiny_model), "--task", "encoder", "--precision", "bfloat16"]) == 1
    shown = capsys.readouterr().out
    assert "the first to depart is layer 0 attention, on padded batches" in shown
    assert "parity is broken" in shown
    assert "BROKEN" in shown


def test_parity_of_the_stacked_network(tiny_model, capsys):
    flags = ["--task", "encoder", "--layers", "stacked", "--remat"]
    assert main(["parity", "--model", str(tiny_model), *flags]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "nowhere/at-all"], "is no local folder, not in the catalog"),
        (["--task", "poetry"], "task 'poetry' is unknown"),
        (["--json", "no/such/folder/p.json"], "there is no folder"),
        (["--init-missing", "clasifier.*"], "--init-missing clasifier.* matches no parameter"),
        (["--drop", "classifier.*"], "--drop classifier.* matches no tensor"),
        (["--attention", "cudnn"], "computes in bfloat16"),
        (["--attention", "cudnn", "--precision", "bfloat16"], "needs an NVIDIA GPU, the devices here are cpu"),
        (["--taks", "classification"], "--taks"),
    ],
)
def test_user_errors_are_one_line(tiny_model, capsys, flags, message):
    assert main(["parity", "--model", str(tiny_model), *flags]) == 2
    assert message in complaint(capsys.readouterr().err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(tiny_model, capsys):
    assert main(["parity", "--model", str(tiny_model), "--task", "encoder", "--json", "/dev/full"]) == 2
    shown = capsys.readouterr()
    assert "parity holds" in shown.out
    assert shown.err.splitlines()[-1] == (
        "bertjax: /dev/full cannot be written: No space left on device; choose another file"
    )


def test_weights_with_nan(tiny_model, tmp_path, capsys):
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in ("config.json", "tokenizer.json"):
        (folder / file).write_bytes((tiny_model / file).read_bytes())
    tensors = load_file(tiny_model / "model.safetensors")
    tensors["bert.pooler.dense.bias"][3] = np.nan
    save_file(tensors, folder / "model.safetensors")
    assert main(["parity", "--model", str(folder)]) == 2
    assert "bert.pooler.dense.bias has 1 NaN or infinite numbers" in capsys.readouterr().err


def test_missing_torch_names_the_extra(tiny_model, monkeypatch, capsys):
    monkeypatch.setattr("bertjax.baselines.parity.checkpoint_parity.find_spec", lambda name: None)
    assert main(["parity", "--model", str(tiny_model)]) == 2
    assert capsys.readouterr().err == "bertjax: parity needs PyTorch: pip install 'bertjax[torch]'\n"
