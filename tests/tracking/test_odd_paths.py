"""A run is recorded in the current folder and read back from there, whatever folders and files are called."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from bertjax import Predictor
from bertjax.errors import ConfigError
from bertjax.tracking.mlflow_store import MlflowStore, tracking_address
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.models.model_registry import fetch_model
from bertjax.tracking.models.pyfunc import save_pyfunc
from bertjax.tracking.tracker import Dataset
from tests.support.paths import ODD_NAMES

# What a part of a URL begins with or consists of; the other names have nothing that MLflow or SQLAlchemy reads.
URL_PARTS = re.compile(r"[%?#;&:@$\\\n]|^ |\[f")
NAMES = {what: name for what, name in ODD_NAMES.items() if URL_PARTS.search(name)}


@pytest.fixture
def odd_folder(tmp_path, monkeypatch, database, request):
    """A current folder of an odd name with an empty database in it; the only one in the folder around it."""
    folder = tmp_path / request.param
    folder.mkdir()
    shutil.copy(database, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.mark.parametrize("odd_folder", NAMES.values(), ids=NAMES, indirect=True)
def test_a_run_in_an_odd_folder(odd_folder):
    name = odd_folder.name
    run = Path("runs") / name
    tracker = MlflowTracker("questions")
    tracker.check()
    tracker.connect()
    run_id = tracker.start(name, {"model": name}, run, {"command": name})
    tracker.log_metrics({"train/loss": 0.5}, 1)
    tracker.log_dataset(Dataset("train", f"{name}/train.csv", "digest", 60))
    (run / "report.html").write_text("report")
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    tracker.log_artifact(run / "report.html")
    tracker.log_model(run / "model", "reviews")
    tracker.finish("FINISHED")

    with closing(sqlite3.connect(odd_folder / "mlflow.db")) as written:
        assert written.execute("select status, name from runs").fetchall() == [("FINISHED", name)]
    # Nothing beside it, such as a folder of the decoded name.
    assert [path.name for path in odd_folder.parent.iterdir()] == [name]
    (artifact,) = (odd_folder / "mlruns").rglob("report.html")
    assert artifact.read_text() == "report"
    client = MlflowClient(tracking_address())
    record = client.get_run(run_id)
    assert record.data.metrics["train/loss"] == 0.5
    assert Path(client.download_artifacts(run_id, "report.html")).read_text() == "report"
    (used,) = record.inputs.dataset_inputs
    assert json.loads(used.dataset.source)["uri"] == f"{name}/train.csv"
    assert used.dataset.source_type == "local"
    assert (fetch_model("models:/reviews@champion") / "config.json").read_text() == "{}"
    again = MlflowTracker("questions")
    again.check(run)
    again.connect()
    assert again.start(name, {"model": name}, run) == run_id
    again.finish("FINISHED")


@pytest.mark.parametrize("name", ["a?b", "a%20b", "#1"])
def test_a_missing_database_stays_missing_while_it_is_checked(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    MlflowTracker("questions").check()
    assert list((tmp_path / name).iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_ordinary_folder_keeps_its_address(in_folder):
    assert tracking_address() == f"sqlite:///{in_folder}/mlflow.db"


ADDRESSES = {
    "no scheme": ("mlruns", "at mlruns refuses: "),
    "one slash": ("sqlite:mlflow.db", "cannot open sqlite:mlflow.db: Could not parse"),
    "no database": ("sqlite:///notes.txt", "cannot open sqlite:///notes.txt: file is not a database"),
    "a folder": ("sqlite:///folder", "cannot open sqlite:///folder: unable to open database file"),
    "a bracket": ("http://[x", r"at http://\[x does not answer"),
    "a port that is none": ("http://127.0.0.1:xx", "at http://127.0.0.1:xx does not answer"),
}


@pytest.mark.parametrize(("address", "message"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_that_cannot_be_used_is_one_line(in_folder, address, message):
    (in_folder / "notes.txt").write_text("some notes, long enough to be no database at all " * 100)
    (in_folder / "folder").mkdir()
    with pytest.raises(ConfigError, match=f"^MLflow {message}") as caught:
        MlflowStore(address).connect()
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path, monkeypatch):
    folder = tmp_path / ODD_NAMES["bytes that are no text"]
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="SQLAlchemy has no address for such a path; work in another folder"):
        tracking_address()


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("s3://bucket/train.csv", "s3"), ("https://example.org/train.csv", "http"), ("hf://datasets/x", "code"),
        ("abfs://store/train.csv", "code"), ("trec", "local"), ("2026:05/train.csv", "local"),
    ],
)  # fmt: skip
def test_a_data_set_of_any_store_is_recorded(in_store, source, kind):
    """MLflow has no class for some addresses that fsspec reads; the run waited for it, and never ended."""
    tracker = MlflowTracker("questions")
    tracker.connect()
    run_id = tracker.start("run", {}, in_store / "run")
    tracker.log_dataset(Dataset("train", source, "digest", 60))
    tracker.finish("FINISHED")
    run = MlflowClient(tracking_address()).get_run(run_id)
    assert run.info.status == "FINISHED"
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.source_type == kind
    assert re.search(re.escape(source), used.dataset.source)


@pytest.mark.parametrize("name", ["a%20b", "s3:", "bert [final]"])
def test_a_model_that_mlflow_runs(finished_run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    model = Path(shutil.copytree(finished_run.model_dir, Path(name) / "model"))
    assert save_pyfunc(model, tmp_path / "served")
    served = mlflow.pyfunc.load_model(str(tmp_path / "served")).predict(pd.DataFrame({"text": ["the song good"]}))
    assert served.to_dict("records") == Predictor.load(model)(["the song good"])
