"""Reports in MLflow, on a real server: of a run and of an evaluation, with figures, page and pictures."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bertjax.cli.main import main
from bertjax.data.table import Table
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig

PICTURES = {"calibration_reliability_diagram.png", "confusion_confusion_rows.png", "slices_worst_slices.png"}


@pytest.fixture
def client(server, in_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    return MlflowClient(server.address)


def names(client, run_id, folder=None):
    return {Path(file.path).name for file in client.list_artifacts(run_id, folder)}


def test_a_run_and_an_evaluation_of_its_model(client, tiny_model, reviews, in_folder, capsys):
    config = FineTuneConfig(str(tiny_model), Table(str(reviews), text=("title", "body"), label="stars"), epochs=1,
                            max_length=10, batch_size=8)  # fmt: skip
    run = finetune(config, "run")
    stored = client.get_run(run.run_id)
    low = "test/interval/accuracy_low"
    assert stored.data.metrics[low] == run.metrics[low]
    assert {"report.html", "report.md", "slices.json", "metrics.json", "charts"} <= names(client, run.run_id)
    assert PICTURES | {"training_losses.png"} <= names(client, run.run_id, "charts")
    picture = Path(client.download_artifacts(run.run_id, "charts/training_losses.png", str(in_folder)))
    assert picture.read_bytes().startswith(b"\x89PNG")

    evaluate = ["evaluate", "--model", "run/model", "--data", str(reviews), "--out", "judged"]
    assert main(evaluate) == 0
    assert len(client.search_runs([stored.info.experiment_id])) == 1  # nothing is recorded unless it is asked for
    recorded = [*evaluate, "--overwrite", "--tracking", "mlflow", "--experiment", "judging", "--intervals"]
    for _ in range(2):  # each is a run of its own
        assert main(recorded) == 0
    first, second = client.search_runs([client.get_experiment_by_name("judging").experiment_id])
    assert first.info.run_name == second.info.run_name == f"run/model on {reviews}"
    metrics = json.loads(Path("judged/metrics.json").read_text())
    assert {key: first.data.metrics[key] for key in metrics} == metrics
    assert first.info.status == "FINISHED"
    assert first.data.tags["bertjax.kind"] == "evaluation"
    assert first.data.params["model"] == "run/model"
    assert first.inputs.dataset_inputs[0].dataset.name == Path(reviews).name
    files = {"report.html", "report.md", "metrics.json", "predictions.jsonl", "slices.json", "charts"}
    assert names(client, first.info.run_id) == files
    assert names(client, first.info.run_id, "charts") >= PICTURES
