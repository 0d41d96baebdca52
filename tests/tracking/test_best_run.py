"""The best run of an experiment by a metric, and its model wherever a model is named; what is wrong is one line."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bertjax.cli.main import main
from bertjax.errors import AssetError, ConfigError
from bertjax.inference.predictor import Predictor
from bertjax.pretrained.files import read_tensors, resolve_model
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.models.best_run import find_best_model

F1, LOSS = "validation/f1_macro", "validation/loss"

Record = Callable[..., str]


@pytest.fixture
def client(in_store: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{in_store}/mlflow.db")


@pytest.fixture
def record(client: MlflowClient, in_store: Path) -> Record:
    """Records a run: (metrics, its status, whether it has a model) -> its id."""
    experiment = client.create_experiment("reviews")
    (in_store / "some" / "model").mkdir(parents=True)
    (in_store / "some" / "model" / "config.json").write_text("{}")

    def record(metrics: Mapping[str, float], status: str = "FINISHED", has_model: bool = True) -> str:
        run_id = client.create_run(experiment).info.run_id
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)
        if has_model:
            client.log_artifacts(run_id, str(in_store / "some"))
        client.set_terminated(run_id, status)
        return run_id

    return record


@pytest.mark.parametrize(
    ("metric", "mode", "runs", "best"),
    [
        (F1, None, [{F1: 0.7}, {F1: 0.9}, {F1: 0.8}], 1),
        (LOSS, None, [{LOSS: 0.7}, {LOSS: 0.9}, {LOSS: 0.5}], 2),
        (F1, "min", [{F1: 0.7}, {F1: 0.9}], 0),
        ("train/seconds", "min", [{"train/seconds": 5}, {"train/seconds": 3}], 1),
        (F1, None, [{F1: 0.7}, {F1: 0.9}, {F1: 0.9}], 1),
        (F1, None, [{F1: math.nan}, {F1: 0.2}, {F1: math.inf}], 1),
        (LOSS, None, [{LOSS: math.nan}, {LOSS: 0.2}, {LOSS: -math.inf}], 1),
        (F1, None, [{F1: 0.2}, {LOSS: 0.1}, {}], 0),
        (F1, None, [{F1: 0.2}, ({F1: 0.9}, "FAILED"), ({F1: 0.9}, "KILLED"), ({F1: 0.9}, "RUNNING")], 0),
        (F1, None, [{F1: 0.2}, ({F1: 0.9}, "FINISHED", False)], 0),
    ],
    ids=["most", "least", "asked least", "asked", "the oldest of two", "not finite", "not finite, least", "without it",
         "unfinished", "without a model"],
)  # fmt: skip
def test_the_best_run(record, metric, mode, runs, best):
    ids = [record(*run) if isinstance(run, tuple) else record(run) for run in runs]
    assert find_best_model("reviews", metric, mode) == f"runs:/{ids[best]}/model"


def test_the_last_value_counts(record, client):
    """A metric of each epoch; the last one is that of the weights that were saved."""
    first, second = record({}), record({})
    for step, (of_first, of_second) in enumerate([(0.9, 0.1), (0.5, 0.6)]):
        client.log_metric(first, F1, of_first, step=step)
        client.log_metric(second, F1, of_second, step=step)
    assert find_best_model("reviews", F1) == f"runs:/{second}/model"


def test_more_runs_than_a_page_has(record, monkeypatch):
    search = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *args, **kwargs: search(*args, **kwargs, max_results=2))
    ids = [record({F1: value}) for value in (0.1, 0.2, 0.3, 0.2, 0.9)]
    assert find_best_model("reviews", F1) == f"runs:/{ids[-1]}/model"


@pytest.mark.parametrize(
    ("runs", "experiment", "metric", "complaint"),
    [
        ([], "reviews", F1, "MLflow's experiment 'reviews' has no finished run"),
        ([({F1: 0.9}, "FAILED")], "reviews", F1, "MLflow's experiment 'reviews' has no finished run"),
        ([], "revews", F1, "has no experiment 'revews'; did you mean 'reviews'?"),
        ([], "x", F1, "has no experiment 'x'; there are "),
        ([{F1: 0.9}], "reviews", "validation/f1", f"no finished run of 'reviews' has a metric 'validation/f1'; did you "
         f"mean '{F1}'?"),
        ([{F1: 0.9, "test/class/a/f1": 1, "system/cpu": 1}], "reviews", "bleu",
         f"has a metric 'bleu'; there are {F1}"),
        ([{"test/class/a/f1": 1}], "reviews", "test/class/b/f1", "did you mean 'test/class/a/f1'?"),
        ([{"train/seconds": 9}], "reviews", "train/seconds",
         "the name 'train/seconds' does not say whether more is better; give --metric-mode max or min"),
        ([({F1: 0.9}, "FINISHED", False), ({F1: math.nan})], "reviews", F1,
         f"no finished run of 'reviews' with a finite {F1} has a model; a run of bertjax finetune has one"),
    ],
    ids=["empty", "failed", "experiment", "no such experiment", "metric", "no such metric", "class", "mode", "model"],
)  # fmt: skip
def test_no_such_run(record, runs, experiment, metric, complaint):
    for run in runs:
        record(*run) if isinstance(run, tuple) else record(run)
    with pytest.raises(ConfigError) as raised:
        find_best_model(experiment, metric)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_deleted_experiment(record, client):
    record({F1: 1.0})
    client.delete_experiment(client.get_experiment_by_name("reviews").experiment_id)
    with pytest.raises(ConfigError, match="'reviews' was deleted; `mlflow experiments restore"):
        find_best_model("reviews", F1)


@pytest.mark.parametrize(
    ("address", "error", "complaint"),
    [
        ("runs:/{run}", AssetError, "is no model of a run; write runs:/ID/model"),
        ("runs:/{run}/weights", AssetError, "is no model of a run; write runs:/ID/model"),
        ("runs:/../model", AssetError, "is no model of a run; write runs:/ID/model"),
        ("runs:/{run}/model", AssetError, r"has no model in .*artifacts"),
        ("runs:/0123/model", ConfigError, "refuses: .*0123"),
    ],
)
def test_a_run_without_a_model(record, address, error, complaint):
    run = record({F1: 1.0}, has_model=False)
    with pytest.raises(error, match=complaint):
        resolve_model(address.format(run=run))


def test_a_store_that_is_not_there_is_not_made(in_folder):
    for find in (lambda: find_best_model("reviews", F1), lambda: resolve_model("runs:/0123/model")):
        with pytest.raises(ConfigError, match=r"there is no MLflow database .*mlflow.db; set MLFLOW_TRACKING_URI"):
            find()
    assert not list(in_folder.iterdir())


def test_evaluate_takes_the_best_model(in_store, finished_run, reviews, capsys):
    """As a run records it, an MLflow model with the folder inside."""
    tracker = MlflowTracker("reviews")
    tracker.connect()
    run_id = tracker.start("good one", {}, in_store / "run")
    tracker.log_metrics({F1: 0.75}, 3)
    tracker.log_model(finished_run.model_dir)
    tracker.finish("FINISHED")
    found, trained = read_tensors(resolve_model(f"runs:/{run_id}/model")), read_tensors(finished_run.model_dir)
    assert all((found[name] == trained[name]).all() for name in trained)
    assert Predictor.load(f"runs:/{run_id}/model")(["good and great ."])[0]["label"] == "good"

    command = ["evaluate", "--data", str(reviews), "--out", "judged", "--model"]
    assert main([*command, "best", "--experiment", "reviews", "--metric", F1]) == 0
    assert f"the best of 1 runs of 'reviews': {F1} 0.75, run good one ({run_id})" in capsys.readouterr().err
    assert f"runs:/{run_id}/model" in Path("judged/report.html").read_text()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["best"], "--model best needs --experiment and --metric, such as --metric validation/f1_macro"),
        (["best", "--experiment", "a"], "--model best needs --experiment and --metric"),
        (["best", "--metric", F1], "--model best needs --experiment and --metric"),
        (["model", "--metric", F1], "--experiment and --metric choose the run of --model best; --model is model"),
        (["best", "--metric", F1, "--experiment", "a", "--metric-mode", "up"], "--metric-mode"),
    ],
)
def test_flags_that_do_not_fit(in_folder, capsys, flags, complaint):
    assert main(["evaluate", "--data", "t.csv", "--model", *flags]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_a_folder_called_best_is_a_folder(in_folder, capsys):
    (in_folder / "best").mkdir()
    assert main(["evaluate", "--data", "t.csv", "--model", "best"]) == 2
    assert "config.json" in capsys.readouterr().err
