"""`bertjax finetune --seeds`: a parent run in MLflow with a child a seed, mean and standard deviation of the scores."""

import json
import re

import pytest

from bertjax.cli.main import main
from tests.support.tracking import runs_of


@pytest.fixture
def command(in_store, tiny_model, reviews):
    table = ["--train", str(reviews), "--text-columns", "title", "body", "--label-column", "stars"]
    job = ["--model", str(tiny_model), "--max-length", "48", "--batch-size", "8", "--epochs", "1", "--out", "out"]
    return ["finetune", *table, *job, "--seeds", "3", "1"]


def test_seeds_are_child_runs_and_scores_are_aggregated(command, in_store, capsys):
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert re.search(r"metric +.*mean.*sd.*seed 3.*seed 1", shown)
    metrics = json.loads((in_store / "out" / "metrics.json").read_text())
    assert re.search(rf"test/f1_macro .*{metrics['test/f1_macro_mean']:.4f}.*{metrics['test/f1_macro_sd']:.4f}", shown)

    client, runs = runs_of(in_store)
    (parent,) = [run for run in runs if run.data.tags.get("bertjax.kind") == "seeds"]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert set(children) == {"seed-3", "seed-1"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.data.metrics["test/accuracy_mean"] == metrics["test/accuracy_mean"]
    assert parent.data.params["seeds"] == "[3, 1]"
    for seed in (3, 1):
        child = children[f"seed-{seed}"]
        assert child.data.params["seed"] == str(seed)
        steps = [point.step for point in client.get_metric_history(child.info.run_id, "train/loss")]
        assert steps[:6] == list(range(1, 7))
        (start,) = json.loads((in_store / "out" / f"seed-{seed}" / "environment.json").read_text())["starts"]
        assert start["command"].endswith(f"--epochs 1 --seed {seed}")
        assert "--seeds" not in start["command"]

    assert main([*command, "--resume"]) == 0  # there is nothing left to do
    assert len(client.search_runs([parent.info.experiment_id])) == 3
    assert json.loads((in_store / "out" / "metrics.json").read_text()) == metrics


def test_the_mean_of_a_second_start_takes_the_place_of_the_first(command, in_store):
    """In MLflow, which shows the newest step of a metric."""
    command = command[:-1]  # a single seed
    assert main(command) == 0
    assert main([*command, "--epochs", "2", "--resume", "--allow-changed"]) == 0
    _, runs = runs_of(in_store)
    (parent,) = [run for run in runs if run.data.tags.get("bertjax.kind") == "seeds"]
    assert (
        parent.data.metrics["train/seconds"]
        == json.loads((in_store / "out" / "metrics.json").read_text())["train/seconds"]
    )
