"""Model folders: where names lead, and what a broken file says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from bertjax.errors import AssetError, CheckpointError
from bertjax.pretrained.files import read_tensors, resolve_model
from tests.support.paths import ODD_NAMES
from tests.support.processes import hub_snapshot


def test_a_folder_wins_over_every_other_name(tmp_path, monkeypatch):
    (tmp_path / "minilm-l6").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("minilm-l6").resolve() == tmp_path / "minilm-l6"


def test_the_folder_of_a_run_names_its_model(tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "model" / "config.json").write_text("{}")
    with pytest.raises(AssetError, match="is the folder of a run and no model; the model is .*/run/model$"):
        resolve_model(run)
    save_file({"a": np.zeros(2)}, run / "model.safetensors")
    assert resolve_model(run) == run, "a model that has a folder of that name beside its weights"


def test_a_hub_id_is_found_in_a_hub_snapshot(tmp_path, monkeypatch):
    snapshot = hub_snapshot(tmp_path, "acme/bert-mini")
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert resolve_model("acme/bert-mini") == snapshot


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
def test_a_hub_snapshot_with_torch_files_only(tmp_path, monkeypatch, name):
    snapshot = hub_snapshot(tmp_path, "acme/bert-mini")
    (snapshot / "config.json").write_text("{}")
    torch.save({"a": torch.zeros(2)}, snapshot / name)
    (snapshot / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert resolve_model("acme/bert-mini") == snapshot
    assert list(read_tensors(snapshot)) == ["a"]


@pytest.mark.parametrize(
    ("weights", "fetched"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5"], ["model.safetensors"]),
        (
            ["pytorch_model.bin", "tf_model.h5", "onnx/model.safetensors"],
            ["onnx/model.safetensors", "pytorch_model.bin"],
        ),
        (
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json", "training_args.bin"],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
        (["flax_model.msgpack"], []),
        # All that a tokenizer is built of: without `added_tokens.json` it would have fewer tokens.
        (
            ["model.safetensors", "vocab.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"],
            ["model.safetensors", "vocab.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"],
        ),
    ],
)
def test_the_hub_is_asked_for_one_kind_of_weights(tmp_path, monkeypatch, weights, fetched):
    """Many repositories have the same weights twice; the second gigabyte stays where it is."""
    from huggingface_hub.utils import filter_repo_objects

    snapshot = tmp_path / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir()

    def download(repository, *, revision="main", allow_patterns):
        assert revision in ("main", snapshot.name)
        for name in filter_repo_objects(["config.json", *weights], allow_patterns=allow_patterns):
            (snapshot / name).parent.mkdir(exist_ok=True)
            (snapshot / name).touch(exist_ok=False)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_model("acme/bert-mini") == snapshot
    names = sorted(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file())
    assert names == sorted(["config.json", *fetched])


def test_a_hub_id_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=r"'acme/none' is no local folder, not in the catalog \(minilm-l6\)"):
        resolve_model("acme/none")


@pytest.mark.parametrize("name", ["./missing", "/tmp/no/such/model", "a/b/c"])
def test_a_path_that_is_not_there(name):
    with pytest.raises(AssetError, match="is not a folder"):
        resolve_model(name)


def write_shards(folder, weight_map, shards):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for name, tensors in shards.items():
        save_file(tensors, folder / name)


def test_shards_are_joined(tmp_path):
    a, b = np.ones(2, np.float32), np.zeros(3, np.float32)
    write_shards(
        tmp_path, {"a": "1.safetensors", "b": "2.safetensors"}, {"1.safetensors": {"a": a}, "2.safetensors": {"b": b}}
    )
    assert set(read_tensors(tmp_path)) == {"a", "b"}


def test_a_missing_shard(tmp_path):
    write_shards(tmp_path, {"a": "1.safetensors"}, {})
    with pytest.raises(CheckpointError, match=r"1.safetensors is missing"):
        read_tensors(tmp_path)


def test_a_tensor_that_no_shard_holds(tmp_path):
    write_shards(tmp_path, {"a": "1.safetensors", "b": "1.safetensors"}, {"1.safetensors": {"a": np.ones(1)}})
    with pytest.raises(CheckpointError, match="no shard holds: b"):
        read_tensors(tmp_path)


def test_shards_of_torch_files(tmp_path):
    state = {"a": torch.randn(2), "b": torch.randn(3)}
    for number, name in enumerate(state, 1):
        torch.save({name: state[name]}, tmp_path / f"pytorch_model-0000{number}-of-00002.bin")
    index = {name: f"pytorch_model-0000{number}-of-00002.bin" for number, name in enumerate(state, 1)}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    tensors = read_tensors(tmp_path)
    assert {name: tensors[name].tolist() for name in tensors} == {name: state[name].tolist() for name in state}
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model-00002-of-00002.bin is missing"):
        read_tensors(tmp_path)


def test_safetensors_come_first(tmp_path):
    torch.save({"torch": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    assert list(read_tensors(tmp_path)) == ["torch"]
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"shard": "1.safetensors"}}))
    save_torch_file({"shard": torch.zeros(2)}, tmp_path / "1.safetensors")
    assert list(read_tensors(tmp_path)) == ["shard"]
    save_torch_file({"single": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert list(read_tensors(tmp_path)) == ["single"]


def test_a_truncated_file(tmp_path, tiny_model):
    whole = (tiny_model / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        read_tensors(tmp_path)


def test_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no model.safetensors.* or pytorch_model.bin.index.json"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
@pytest.mark.parametrize("content", [" ", "[]", "{}"])
def test_an_index_that_is_none(tmp_path, index, content):
    (tmp_path / index).write_text(content)
    with pytest.raises(CheckpointError, match=rf"{index} is not an index of shards"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_float_that_torch_writes(tmp_path, dtype):
    """NumPy alone has no bfloat16. In a process of its own, where nothing else has brought it."""
    values = torch.linspace(-3, 3, 12).reshape(3, 4).to(getattr(torch, dtype))
    save_torch_file({"a": values}, tmp_path / "model.safetensors")
    program = (
        "import sys; from pathlib import Path; from bertjax.pretrained.files import read_tensors;"
        "a = read_tensors(Path(sys.argv[1]))['a']; print(a.dtype.name, a.shape, a.tobytes().hex())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    assert printed.strip() == f"{dtype} (3, 4) {values.view(torch.uint8).numpy().tobytes().hex()}"


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_model_in_a_folder_of_any_name(tiny_model, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, name)
    for folder in (name, str(tmp_path / name)):
        assert resolve_model(folder) == Path(folder)
        assert read_tensors(resolve_model(folder)).keys() == read_tensors(tiny_model).keys()
