"""Whole sweeps of a tiny model with Ray: their folder, trials that differ, early stopping, resumption, seeds."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from unittest.mock import patch

import pytest

from bertjax.cli.main import main
from bertjax.data.table import Table
from bertjax.errors import ConfigError, RunFolderError
from bertjax.storage.folder_lock import locked_folder
from bertjax.sweeps.driver import _close_run, check_folder, run_sweep
from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.results.sweep_results import read_results
from bertjax.sweeps.search_space import Choice, Grid, LogUniform
from bertjax.sweeps.sweep_config import Sweep
from bertjax.tracking import event_log
from bertjax.tracking.event_log import EventLog
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.members import their_folder
from tests.support.processes import user_environment
from tests.support.progress import KeptStages
from tests.support.tracking import runs_of

pytestmark = pytest.mark.ray

SWEEP_FILE = """
from bertjax import FineTuneConfig, Sweep, Table
from bertjax.sweeps.search_space import Choice, LogUniform

TABLE = Table({reviews!r}, text=("title", "body"), label="stars", validation_size=0.25)
CONFIG = Sweep(
    base=FineTuneConfig(model={model!r}, data=TABLE, epochs=2, max_length=48, batch_size=8),
    space={{"optimizer.learning_rate": LogUniform(1e-4, 1e-1), "pooling": Choice(("cls", "mean"))}},
    samples=3,
)
"""


@pytest.fixture
def sweep(tiny_model, reviews):
    table = Table(str(reviews), text=("title", "body"), label="stars", validation_size=0.25)
    base = FineTuneConfig(model=str(tiny_model), data=table, epochs=2, max_length=48, batch_size=8)
    space = {"optimizer.learning_rate": LogUniform(1e-4, 1e-1), "pooling": Choice(("cls", "mean"))}
    return Sweep(base, space, samples=3)


def assert_nothing_lost_or_doubled(folder, trials):
    client, runs = runs_of(folder)
    (parent,) = [run for run in runs if run.data.tags.get("bertjax.kind") == "sweep"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1 == trials
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in children:
        history = client.get_metric_history(run.info.run_id, "train/loss")
        counts = Counter(point.step for point in history)
        assert set(counts.values()) == {1}
        assert sorted(counts) == list(range(1, max(counts) + 1))


def test_a_sweep_leaves_trials_that_differ_the_best_model_and_a_report(sweep, tmp_path_factory, in_store, ray_session):
    """Over two members of the family, too."""
    progress = KeptStages()
    models = (sweep.base.model, str(their_folder("roberta", tmp_path_factory.mktemp("models") / "roberta")))
    # Trials beside each other: in the sweep that resumes.
    sweep = replace(sweep, space=sweep.space | {"model": Choice(models)}, concurrency=1)
    results = run_sweep(sweep, "s", progress=progress)
    assert progress.stages == [("sweep", "trials", 3, [1, 1, 1])]
    assert [result.trial.status for result in results.trials] == ["finished"] * 3
    rates = set()
    for result in results.trials:
        used = json.loads((results.run_folder(result) / "config.json").read_text())
        assert {path: used[path] for path in sweep.space} == dict(result.trial.values)
        rates.add(used["optimizer.learning_rate"])
    assert len(rates) == 3
    assert {result.trial.values["model"] for result in results.trials} == set(models)
    assert [len(result.curve) for result in results.trials] == [2, 2, 2]
    best = results.best
    assert best is not None
    assert best.cost == min(result.cost for result in results.trials)
    assert [(results.run_folder(r) / "model").is_dir() for r in results.trials] == [r is best for r in results.trials]
    saved = json.loads((results.run_folder(best) / "model" / "config.json").read_text())["model_type"]
    assert saved == dict(zip(models, ("bert", "roberta"), strict=True))[best.trial.values["model"]]
    assert_nothing_lost_or_doubled(in_store, 3)

    page = (in_store / "s" / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "http" not in re.sub(r"http://www\.w3\.org\S*|https?://(purl|creativecommons|matplotlib)\.org\S*", "", page)
    config = runpy.run_path(str(in_store / "s" / "best.py"))["CONFIG"]
    assert config == sweep.trial_config(best.trial.values)
    assert read_results(in_store / "s") == results


def test_a_killed_sweep_resumes(tiny_model, reviews, in_store, ray_session, capsys):
    """Its first process is killed; this one goes on, with two trials beside each other."""
    (in_store / "sweep.py").write_text(SWEEP_FILE.format(reviews=str(reviews), model=str(tiny_model)))
    start = [sys.executable, "-m", "bertjax", "sweep", "--config", "sweep.py", "--out", "s", "--concurrency", "1"]
    devices = user_environment(XLA_FLAGS=os.environ["XLA_FLAGS"])  # the trials that go on have as many
    with subprocess.Popen(start, env=devices, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("trial 1, epoch 1 of 2"):
                break
        process.send_signal(signal.SIGKILL)
    before = Ledger(in_store / "s").trials()
    assert before[0].status == "finished"
    done = json.loads((in_store / "s" / "trials" / "000" / "metrics.json").read_text())

    assert main(["sweep", "--resume", "s"]) == 0
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert "3 of 3 trials (3 finished)" in printed.out
    assert json.loads((in_store / "s" / "trials" / "000" / "metrics.json").read_text()) == done
    assert [trial.drawn for trial in Ledger(in_store / "s").trials()][:2] == [trial.drawn for trial in before][:2]
    assert_nothing_lost_or_doubled(in_store, 3)


def test_a_scheduler_ends_a_weak_trial_and_the_next_one_takes_its_process(sweep, in_store, ray_session):
    base = replace(
        sweep.base, pooling="mean", evaluation=replace(sweep.base.evaluation, best_metric="epoch/train_loss")
    )
    space = {"optimizer.learning_rate": Grid((1e-3, 10.0, 1e-6))}  # the second one is far off at once
    halving = Sweep(base, space, searcher="grid", scheduler="asha", reduction_factor=2, concurrency=1)
    results = run_sweep(halving, "s")
    assert [(r.trial.status, len(r.curve)) for r in results.trials[:2]] == [("finished", 2), ("stopped", 1)]
    assert results.trials[2].trial.status in ("finished", "stopped")
    assert results.trials[1].trial.cause == "ended early by asha"
    assert results.metric == "epoch/train_loss"
    assert_nothing_lost_or_doubled(in_store, 3)


def test_the_status_of_a_stopped_trial_is_recorded_after_its_process_has_ended(tmp_path):
    """Ray reports a trial as stopped while its process still records that the run failed."""
    ledger = Ledger(tmp_path)
    run = ledger.run_folder(0)
    run.mkdir(parents=True)
    trial = Trial(0, {}, {}, status="stopped")
    began = threading.Event()

    def process():
        with locked_folder(run):
            began.set()
            time.sleep(0.3)
            EventLog(run / event_log.FILE).record({"status": "FAILED", "time_ms": 0})

    working = threading.Thread(target=process)
    working.start()
    began.wait()
    (run / event_log.FILE).touch()
    with patch("bertjax.sweeps.driver.upload_pending"):
        _close_run(run, trial, "mlflow")
    working.join()
    assert [event["status"] for event in EventLog(run / event_log.FILE).pending()[0]] == ["FAILED", "FINISHED"]


def test_the_best_config_is_trained_with_several_seeds_each_once(sweep, in_store, ray_session):
    base = replace(sweep.base, epochs=1)
    results = run_sweep(replace(sweep, base=base, samples=1, seeds=(3,)), "s")
    assert list(results.seeds) == [3]
    run = in_store / "s" / "seeds" / "000" / "seed-3"
    used = json.loads((run / "config.json").read_text())
    assert used["seed"] == 3
    assert {path: used[path] for path in sweep.space} == dict(results.trials[0].trial.values)
    finished = (run / "metrics.json").stat().st_mtime_ns

    again = run_sweep(replace(sweep, base=base, samples=1, seeds=(3, 4)), "s", if_exists="resume")
    assert list(again.seeds) == [3, 4]
    assert (run / "metrics.json").stat().st_mtime_ns == finished
    assert "The best config with seeds 3, 4" in (in_store / "s" / "report.html").read_text()
    _, runs = runs_of(in_store)
    (parent,) = [run for run in runs if run.data.tags.get("bertjax.kind") == "seeds"]
    (sweep_run,) = [run for run in runs if run.data.tags.get("bertjax.kind") == "sweep"]
    assert parent.data.tags["mlflow.parentRunId"] == sweep_run.info.run_id
    children = [r.info.run_name for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(children) == ["seed-3", "seed-4"]
    assert len(runs) == 5  # with the trial


def test_folders_that_hold_something_else(sweep, tmp_path):
    ledger = Ledger(tmp_path / "s")
    with pytest.raises(RunFolderError, match=r"holds no sweep \(it has no sweep.json\)"):
        check_folder(tmp_path / "s", sweep, resume=True)
    ledger.open(sweep)
    with pytest.raises(RunFolderError, match="already holds a sweep; continue it with --resume"):
        check_folder(tmp_path / "s", sweep, resume=False)
    other = Sweep(sweep.base, {"seed": Choice((1, 2))}, samples=5)
    with pytest.raises(RunFolderError, match="holds another sweep: space.optimizer.learning_rate was"):
        check_folder(tmp_path / "s", other, resume=True)


def test_resources_that_the_cluster_lacks(sweep, in_store, ray_session):
    with pytest.raises(ConfigError, match="a trial asks for 1000 CPU, and the cluster has 2"):
        run_sweep(replace(sweep, cpus=1000), "s")
    with pytest.raises(ConfigError, match="a trial asks for 4 TPU, and the cluster has 0"):
        run_sweep(replace(sweep, resources={"TPU": 4}), "s")
    assert not (in_store / "s").exists()


def test_a_metric_that_no_run_reports(sweep, in_store, ray_session):
    base = replace(sweep.base, evaluation=replace(sweep.base.evaluation, best_metric="validation/acuracy"))
    with pytest.raises(ConfigError, match=r"every trial failed; the first: .*does not report 'validation/acuracy'"):
        run_sweep(replace(sweep, base=base, samples=1, retries=0), "s")
