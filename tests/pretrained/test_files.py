"""Model folders: where names lead, and what a broken file says."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from bertjax.errors import AssetError, CheckpointError
from bertjax.pretrained.files import read_tensors, resolve_model, written_at_once


def test_a_folder_wins_over_every_other_name(tmp_path, monkeypatch):
    (tmp_path / "minilm-l6").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("minilm-l6").resolve() == tmp_path / "minilm-l6"


def test_a_hub_id_is_found_in_a_hub_snapshot(tmp_path, monkeypatch):
    """The layout that a hub client leaves in its cache; offline, the client reads nothing else."""
    repository = tmp_path / "models--acme--bert-mini"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert resolve_model("acme/bert-mini") == snapshot


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


def test_a_truncated_file(tmp_path, tiny_model):
    whole = (tiny_model / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        read_tensors(tmp_path)


def test_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no model.safetensors"):
        read_tensors(tmp_path)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with written_at_once(target) as scratch:
        (scratch / "old").write_text("1")
    with pytest.raises(RuntimeError), written_at_once(target) as scratch:  # noqa: PT012 (the block is the subject)
        (scratch / "new").write_text("2")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
