"""A downloaded model is kept for the upload that it came from: a resumed run uploads to the same place again."""

import shutil

import jax
import numpy as np

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.pretrained.files import read_tensors, resolve_model
from bertjax.tracking.mlflow_tracker import MlflowTracker


def upload(model, run) -> str:
    tracker = MlflowTracker("models")
    tracker.connect()
    run_id = tracker.start("run", {}, run)
    tracker.log_model(model, "reviews")
    tracker.finish("FINISHED")
    return run_id


def test_a_model_that_its_run_has_uploaded_again(server, finished_run, in_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("BERTJAX_CACHE", str(in_folder / "cache"))
    model = shutil.copytree(finished_run.model_dir, in_folder / "model")
    first_id = upload(model, in_folder / "run")
    of_run = resolve_model(f"runs:/{first_id}/model")
    first = resolve_model("models:/reviews/1")
    assert first == resolve_model("models:/reviews/1")  # the copy in the cache
    assert of_run == resolve_model(f"runs:/{first_id}/model")
    network, params = from_pretrained(model)
    save_pretrained(model, network, jax.tree.map(lambda leaf: leaf + 1, params), load_tokenizer(model))
    run_id = upload(model, in_folder / "run")
    uploaded = read_tensors(model)
    for address in ("models:/reviews/1", f"runs:/{run_id}/model"):
        found = read_tensors(resolve_model(address))
        assert all(np.array_equal(found[name], uploaded[name]) for name in uploaded)
