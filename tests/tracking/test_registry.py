"""A finished model runs from MLflow alone, in a process of its own, and has a name that every command takes."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jax
import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from bertjax import Predictor, from_pretrained
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.errors import AssetError
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.pretrained.files import read_tensors, resolve_model
from bertjax.tasks import TASKS, make_model
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.models.pyfunc import save_pyfunc
from tests.support.models import TINY
from tests.support.processes import free_port, printed, user_environment

TEXTS = ["the song good and great .", "the song bad and dull ."]


@pytest.fixture
def log(in_store, finished_run):
    """Records the finished run's model as that of a new run; returns the run's id."""

    def log(name, register=None):
        tracker = MlflowTracker("models")
        tracker.connect()
        run_id = tracker.start(name, {}, in_store / name)
        tracker.log_model(finished_run.model_dir, register)
        tracker.finish("FINISHED")
        return run_id

    return log


def variables(folder):
    return user_environment(MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db", MLFLOW_DISABLE_TELEMETRY="true")


def test_a_model_is_loaded_and_served_in_processes_of_its_own(log, in_store, finished_run):
    log("run", "reviews")
    expected = Predictor.load(finished_run.model_dir)(TEXTS)
    port = free_port()
    command = ["models", "serve", "-m", "models:/reviews@champion", "--env-manager", "local", "--port", str(port)]
    with (
        open(in_store / "serve.log", "wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "--host", "127.0.0.1", "--workers", "1"],
            env=variables(in_store), stdout=output, stderr=output, start_new_session=True,
        ) as server,
    ):  # fmt: skip
        try:
            code = f"""
import json, mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/reviews@champion")
frame = pd.DataFrame({{"text": {TEXTS!r}}})
print(json.dumps(model.predict(frame).to_dict("records")))
"""
            answers = json.loads(printed(code, env=variables(in_store)))
            assert [row["label"] for row in answers] == ["good", "bad"]
            assert [row["probability"] for row in answers] == pytest.approx(
                [row["probability"] for row in expected], abs=1e-6
            )

            # By the columns of its training, where the process above gave the texts that they are joined to.
            rows = [[text.partition(" song ")[0] + " song", text.partition(" song ")[2]] for text in TEXTS]
            body = json.dumps({"dataframe_split": {"columns": ["title", "body"], "data": rows}}).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
            )
            for _ in range(600):
                assert server.poll() is None, (in_store / "serve.log").read_text()
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        served = json.load(answer)["predictions"]
                    break
                except (ConnectionError, urllib.error.URLError):
                    time.sleep(0.1)
            assert served == answers
        finally:
            os.killpg(server.pid, 15)


def test_versions_and_their_aliases(log, in_store, finished_run, reviews):
    runs = [log(name, "reviews") for name in ("first", "second", "third")]
    client = MlflowClient(f"sqlite:///{in_store}/mlflow.db")
    versions = {alias: client.get_model_version_by_alias("reviews", alias) for alias in ("champion", "challenger")}
    assert {alias: version.run_id for alias, version in versions.items()} == {
        "champion": runs[0], "challenger": runs[2],
    }  # fmt: skip

    # The same upload again, as after a lost answer, changes nothing.
    event_log = in_store / "first" / "tracking.jsonl"
    lines = event_log.read_text().splitlines(keepends=True)
    event_log.write_text("".join(line for line in lines if '"sent"' not in line))
    log("first", "reviews")
    assert {alias: client.get_model_version_by_alias("reviews", alias).run_id for alias in versions} == {
        "champion": runs[0], "challenger": runs[2],
    }  # fmt: skip
    assert {version.version for version in client.search_model_versions("name = 'reviews'")} == {1, 2, 3}

    for address in ("models:/reviews@champion", "models:/reviews/2"):
        registered, trained = read_tensors(resolve_model(address)), read_tensors(finished_run.model_dir)
        assert all((registered[name] == trained[name]).all() for name in trained)
    assert from_pretrained("models:/reviews@champion")[0].labels == ("bad", "good")
    assert Predictor.load("models:/reviews@challenger")(TEXTS)[0]["label"] == "good"
    models = ("models:/reviews@champion", finished_run.model_dir)
    registered, trained = (Predictor.load(model)(pd.read_csv(reviews)) for model in models)
    assert registered == trained
    registered, trained = (evaluate(str(model), str(reviews)) for model in models)
    assert registered.report.flat("test") == trained.report.flat("test")


def test_a_model_that_is_not_there(log):
    log("run", "reviews")
    for address, message in {
        "models:/reviews@champoin": r"in sqlite:.*where reviews has @champion \(version 1\) and versions up to 1",
        "models:/revews@champion": "which has reviews",
        "models:/reviews/7": "is not in sqlite:",
        "models:/reviews": "write models:/NAME@ALIAS or models:/NAME/VERSION",
    }.items():
        with pytest.raises(AssetError, match=message):
            resolve_model(address)


def test_a_model_without_predictions_is_recorded_as_it_is(in_store, tiny_model):
    tracker = MlflowTracker("models")
    tracker.connect()
    run_id = tracker.start("run", {}, in_store / "run")
    tracker.log_model(tiny_model)
    tracker.finish("FINISHED")
    client = MlflowClient(f"sqlite:///{in_store}/mlflow.db")
    assert "tiny/model.safetensors" in {item.path for item in client.list_artifacts(run_id, "tiny")}


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("token_classification", {"text": "what a film"}),
        ("question_answering", {"text": "what was good ?", "text_pair": "the song was good"}),
        ("multiple_choice", {"text": "what ?", "text_pair": '["a film", "a dull book"]'}),
        ("masked_lm", {"text": "what a [MASK]"}),
    ],
)
def test_mlflow_serves_every_kind_of_answer(tiny_model, tmp_path, task, row):
    model = make_model(TINY, task, ("good", "bad") if TASKS[task].names else ())
    folder = save_pretrained(tmp_path / "model", model, model.init(jax.random.PRNGKey(0)), load_tokenizer(tiny_model))
    assert save_pyfunc(folder, tmp_path / "served")
    served = mlflow.pyfunc.load_model(str(tmp_path / "served")).predict(pd.DataFrame([row]))
    plain = row["text"] if len(row) == 1 else tuple(row.values())
    assert served.to_dict("records") == Predictor.load(folder)([plain])


def test_a_registered_model_without_a_version_is_told_so(in_store):
    MlflowClient(f"sqlite:///{in_store}/mlflow.db").create_registered_model("empty")
    for address in ("models:/empty@champion", "models:/empty/1"):
        with pytest.raises(AssetError, match=r"where empty has no version yet; a run with --register empty makes one"):
            resolve_model(address)
