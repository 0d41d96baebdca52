"""`--tracking none`: the run folder has all that it has with MLflow, and nothing else is written or asked."""

import json

import pytest

from bertjax.cli.main import main
from bertjax.errors import ConfigError
from bertjax.storage.append_only_log import AppendOnlyLog
from bertjax.training.settings.finetune_config import FineTuneConfig, of_this_version
from tests.support.processes import complaint


@pytest.fixture
def command(in_folder, tiny_model, reviews, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # whoever asks it, fails
    table = ["--train", str(reviews), "--text-columns", "title", "body", "--label-column", "stars"]
    job = ["--model", str(tiny_model), "--max-length", "48", "--batch-size", "16", "--epochs", "1", "--out", "out"]
    return ["finetune", *table, *job, "--tracking", "none"]


def test_a_run_needs_no_mlflow_and_keeps_its_records(command, in_folder, capsys, monkeypatch):
    assert main(command) == 0
    assert "stopping" not in capsys.readouterr().err, "a SIGTERM from outside this process ended the run before its end"
    assert {path.name for path in in_folder.iterdir()} == {"out"}
    metrics = json.loads((in_folder / "out" / "metrics.json").read_text())
    events = list(AppendOnlyLog(in_folder / "out" / "tracking.jsonl").entries())
    recorded = {name: value for event in events for name, value in event.get("metrics", {}).items()}
    assert recorded["test/accuracy"] == metrics["test/accuracy"]
    assert sum("train/loss" in event.get("metrics", {}) for event in events) == metrics["train/steps"]
    assert (events[0]["status"], events[-1]["status"]) == ("RUNNING", "FINISHED")

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    capsys.readouterr()
    assert main(["sync", "out"]) == 2
    assert "holds no run that is recorded in MLflow" in complaint(capsys.readouterr().err)
    with_mlflow = [word if word != "none" else "mlflow" for word in command]
    assert main([*with_mlflow, "--resume"]) == 2
    assert "tracking was 'none', now 'mlflow'" in complaint(capsys.readouterr().err)


def test_seeds_need_no_mlflow(command, in_folder):
    assert main([*command, "--seeds", "3", "1"]) == 0
    assert json.loads((in_folder / "out" / "metrics.json").read_text())["seeds"] == 2
    assert {path.name for path in in_folder.iterdir()} == {"out"}


def test_a_run_of_an_earlier_version_was_tracked_in_mlflow():
    assert of_this_version({"epochs": 1})["tracking"] == "mlflow"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tracking": "none", "register": "reviews"}, "register needs tracking in mlflow"),
        ({"tracking": "wandb"}, "tracking is mlflow or none"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FineTuneConfig(**settings)
