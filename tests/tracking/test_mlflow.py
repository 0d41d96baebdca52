"""MLflow receives all records of a run once, in the store that the user names, whatever happens to either process."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from bertjax.cli.main import main
from bertjax.errors import ConfigError
from bertjax.tracking.mlflow_store import MlflowStore
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.tracker import Dataset
from tests.support.tracking import runs_of


def started(folder, params=None, **options):
    tracker = MlflowTracker("questions", **options)
    tracker.connect()
    return tracker, tracker.start(folder.name, params or {}, folder)


def steps(client, run_id, key="train/loss"):
    return [metric.step for metric in client.get_metric_history(run_id, key)]


def test_a_run_in_the_default_store(in_folder):
    tracker = MlflowTracker("questions")
    tracker.connect()
    facts = {"git_commit": "0123abc", "host": "here"}
    run_id = tracker.start("run", {"epochs": 3, "data.text": ["a"]}, in_folder / "run", facts)
    sides = {"train": "/data/reviews.csv", "validation": "https://example.org/held-out.csv", "test": "trec"}
    for side, source in sides.items():
        tracker.log_dataset(Dataset(side, source, f"digest-of-{side}", 60))
    for step in range(1, 1203):
        tracker.log_metrics({"train/loss": 1 / step, "test/C++/f1": 0.5}, step)
    (in_folder / "run" / "model").mkdir()
    (in_folder / "run" / "model" / "config.json").write_text("{}")
    tracker.log_artifact(in_folder / "run" / "model")
    tracker.log_artifact(in_folder / "gone")
    tracker.finish("FINISHED")

    assert (in_folder / "mlflow.db").is_file()
    client = MlflowClient(f"sqlite:///{in_folder}/mlflow.db")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "3", "data.text": "['a']"}
    assert run.data.tags.items() >= {**facts, "mlflow.source.git.commit": "0123abc"}.items()
    used = {entry.tags[0].value: entry.dataset for entry in run.inputs.dataset_inputs}
    assert {side: dataset.digest for side, dataset in used.items()} == {side: f"digest-of-{side}" for side in sides}
    assert all(source in used[side].source for side, source in sides.items())
    assert used["train"].name == "reviews.csv"
    assert json.loads(used["train"].profile) == {"num_rows": 60}
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0  # at the end at the latest
    assert steps(client, run_id) == steps(client, run_id, "test/C__/f1") == list(range(1, 1203))
    assert [item.path for item in client.list_artifacts(run_id, "model")] == ["model/config.json"]


def test_a_run_is_continued_in_the_store_that_is_named(in_folder, database, monkeypatch):
    shutil.copy(database, in_folder / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{in_folder}/elsewhere.db")
    first, run_id = started(in_folder / "run", {"epochs": 3})
    first.log_metrics({"train/loss": 2.0}, 1)
    first.finish("KILLED")
    second, same = started(in_folder / "run", {"epochs": 3, "new": 1})
    assert same == run_id
    second.log_metrics({"train/loss": 1.0}, 2)
    second.finish("FINISHED")
    client = MlflowClient(f"sqlite:///{in_folder}/elsewhere.db")
    assert steps(client, run_id) == [1, 2]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert client.get_run(run_id).data.params == {"epochs": "3", "new": "1"}
    child, child_id = started(in_folder / "child", parent_run_id=run_id)
    child.finish("FINISHED")
    assert client.get_run(child_id).data.tags["mlflow.parentRunId"] == run_id
    assert not (in_folder / "mlflow.db").exists()

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ConfigError, match=r"MLflow at sqlite:.*mlflow.db refuses: .*began in sqlite:.*elsewhere.db\)"):
        started(in_folder / "run")


def test_a_run_whose_id_was_lost_with_a_killed_process_is_found_by_its_key(in_store):
    tracker, run_id = started(in_store / "run")
    tracker.finish("KILLED")
    log = in_store / "run" / "tracking.jsonl"
    log.write_text(log.read_text().splitlines(keepends=True)[0])  # killed right after MLflow made the run
    assert started(in_store / "run")[1] == run_id


def test_a_process_that_is_killed_and_repeats_steps_leaves_each_once(in_store):
    code = """
import itertools, sys
from pathlib import Path
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.tracker import Dataset
tracker = MlflowTracker("questions", seconds_between_uploads=0.05)
tracker.connect()
tracker.start("run", {}, Path("run"))
for step in itertools.count(1):
    tracker.log_metrics({"train/loss": 1 / step}, step)
    print(step, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        log = in_store / "run" / "tracking.jsonl"
        last = next(int(line) for line in process.stdout if int(line) >= 500 and '"sent"' in log.read_text())
        process.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in process.stdout if line.endswith("\n"))])
    tracker, run_id = started(in_store / "run")
    for step in range(300, last + 50):  # from its last checkpoint
        tracker.log_metrics({"train/loss": 1 / step}, step)
    tracker.finish("FINISHED")
    client = MlflowClient(f"sqlite:///{in_store}/mlflow.db")
    assert steps(client, run_id) == list(range(1, last + 50))


def test_metrics_that_were_sent_but_not_marked_are_not_sent_again(in_store):
    tracker, run_id = started(in_store / "run")
    for step in range(1, 11):
        tracker.log_metrics({"train/loss": float("nan")}, step)
    tracker.finish("KILLED")
    log = in_store / "run" / "tracking.jsonl"
    lines = [line for line in log.read_text().splitlines(keepends=True) if '"sent"' not in line]
    # Other times, so that it is not MLflow's own key that drops them.
    log.write_text("".join(re.sub(r'"time_ms": \d+', '"time_ms": 5', line) for line in lines))
    tracker, _ = started(in_store / "run")
    tracker.log_metrics({"train/loss": 1.0}, 11)
    tracker.finish("FINISHED")
    client = MlflowClient(f"sqlite:///{in_store}/mlflow.db")
    assert steps(client, run_id) == list(range(1, 12))
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_server_that_is_restarted_during_a_run(server, in_folder, monkeypatch, caplog, capsys):
    """One run continues all the time, the other ends while the server is down and is resumed later."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    client = MlflowClient(server.address)
    (steady, steady_id), (unlucky, unlucky_id) = (
        started(in_folder / name, seconds_between_uploads=0.2, patience_seconds=1.0) for name in ("steady", "unlucky")
    )
    (in_folder / "steady" / "report.html").write_text("<p>")

    def log(tracker, first, last):
        for step in range(first, last + 1):
            tracker.log_metrics({"train/loss": 1 / step, "train/grad_norm": 1.0}, step)
            time.sleep(0.002)  # as steps do

    log(steady, 1, 200)
    log(unlucky, 1, 200)
    while not (steps(client, steady_id) and steps(client, unlucky_id)):
        time.sleep(0.05)
    server.stop()
    log(steady, 201, 400)
    log(unlucky, 201, 300)
    steady.log_artifact(in_folder / "steady" / "report.html")
    unlucky.finish("FAILED")
    # What the last request met, a refused connection or one cut off, is chance.
    (message,) = [record.getMessage() for record in caplog.records if "did not take all" in record.getMessage()]
    folder = in_folder / "unlucky"
    assert message.startswith(f"tracking: {server.address} did not take all of the run (")
    assert message.endswith(
        f"the rest is kept in {folder / 'tracking.jsonl'}; bertjax sync {folder} sends it, and so does --resume"
    )
    while f"the run goes on and keeps its records in {in_folder / 'steady' / 'tracking.jsonl'}" not in caplog.text:
        time.sleep(0.05)
    server.start()
    log(steady, 401, 500)
    steady.finish("FINISHED")
    assert steps(client, steady_id) == steps(client, steady_id, "train/grad_norm") == list(range(1, 501))
    assert client.get_run(steady_id).info.status == "FINISHED"
    assert [item.path for item in client.list_artifacts(steady_id)] == ["report.html"]

    assert main(["sync", str(in_folder / "unlucky")]) == 0
    assert steps(client, unlucky_id) == list(range(1, 301))
    assert client.get_run(unlucky_id).info.status == "FAILED"
    assert main(["sync", str(in_folder / "unlucky"), str(in_folder / "none")]) == 2
    assert re.search(r"unlucky: \d+ records sent\n.*unlucky: 0 records sent\n$", capsys.readouterr().out, re.DOTALL)
    again, same_id = started(in_folder / "unlucky")
    log(again, 281, 310)
    again.finish("FINISHED")
    assert same_id == unlucky_id
    assert steps(client, unlucky_id) == list(range(1, 311))
    assert client.get_run(unlucky_id).info.status == "FINISHED"


def test_a_store_that_does_not_answer(in_folder, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        for listening in (False, True):
            if listening:
                silent.listen()  # takes the connection and says nothing
            with pytest.raises(ConfigError, match=r"MLflow at http://127.0.0.1:\d+ does not answer; start it, or set "):
                MlflowTracker("questions").connect()
    assert list(in_folder.iterdir()) == []


def test_a_run_that_is_refused_as_it_begins_is_not_shown_as_running(in_store, monkeypatch):
    def refuse(*_: object) -> None:
        raise ConfigError("MLflow refuses")

    monkeypatch.setattr(MlflowStore, "describe", refuse)
    tracker = MlflowTracker("bertjax")
    tracker.connect()
    with pytest.raises(ConfigError, match="MLflow refuses"):
        tracker.start("run", {}, in_store / "run")
    assert runs_of(in_store)[1] == []


def test_a_new_database_is_on_the_disk_as_a_whole_and_later_writes_one_by_one(in_folder, monkeypatch):
    synced = []
    monkeypatch.setattr("bertjax.tracking.mlflow_store.os.fsync", synced.append)
    store = MlflowStore(f"sqlite:///{in_folder / 'new.db'}")
    store.connect()
    assert len(synced) == 1, "while it was made, nothing waited for the disk"
    with store.client._tracking_client.store.engine.connect() as kept:
        assert kept.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL: a run that is recorded stays recorded"
    store.connect()
    assert len(synced) == 1, "it is there already"
