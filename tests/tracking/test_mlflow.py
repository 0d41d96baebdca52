"""MLflow gets what a run says: once, complete, in the store that the user names."""

import pytest
from mlflow import MlflowClient

from bertjax.errors import ConfigError
from bertjax.tracking.mlflow import MlflowTracker


def test_a_run_in_the_default_store(in_folder):
    tracker = MlflowTracker("questions")
    run_id = tracker.start("first", {"epochs": 3, "data.text": ["a"]})
    for step in range(1, 1203):
        tracker.log_metrics({"train/loss": 1 / step}, step)
    (in_folder / "model").mkdir()
    (in_folder / "model" / "config.json").write_text("{}")
    tracker.log_artifact(in_folder / "model")
    tracker.finish("FINISHED")

    assert (in_folder / "mlflow.db").is_file()
    client = MlflowClient(f"sqlite:///{in_folder}/mlflow.db")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "3", "data.text": "['a']"}
    assert [metric.step for metric in client.get_metric_history(run_id, "train/loss")] == list(range(1, 1203))
    assert [item.path for item in client.list_artifacts(run_id, "model")] == ["model/config.json"]


def test_a_run_is_continued_in_the_store_that_is_named(in_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{in_folder}/elsewhere.db")
    first = MlflowTracker("questions")
    run_id = first.start("first", {"epochs": 3})
    first.log_metrics({"train/loss": 2.0}, 1)
    first.finish("KILLED")
    second = MlflowTracker("questions")
    assert second.start("first", {"epochs": 3}, run_id) == run_id
    second.log_metrics({"train/loss": 1.0}, 2)
    second.finish("FINISHED")
    client = MlflowClient(f"sqlite:///{in_folder}/elsewhere.db")
    assert [metric.step for metric in client.get_metric_history(run_id, "train/loss")] == [1, 2]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert not (in_folder / "mlflow.db").exists()


def test_an_unknown_run_and_a_server_that_is_not_there(in_folder, monkeypatch):
    with pytest.raises(ConfigError, match=r"MLflow at sqlite:///.*mlflow.db refuses"):
        MlflowTracker("questions").start("x", {}, run_id="none")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConfigError, match=r"MLflow at http://127.0.0.1:9 refuses"):
        MlflowTracker("questions").start("x", {})
