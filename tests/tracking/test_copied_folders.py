"""Each run folder has a run of its own in MLflow: a copy begins one with the whole history, a moved one keeps its."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bertjax.cli.main import main
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.mlflow_tracker import MlflowTracker
from tests.support.tracking import runs_of


def start(folder, first, last, status="KILLED", params=None, parent=None, tags=None):
    """One start of a run, which trains some steps; returns the id of its run."""
    tracker = MlflowTracker("bertjax", parent_run_id=parent)
    tracker.connect()
    run_id = tracker.start(folder.name, params or {"epochs": 3}, folder, tags or {"command": f"steps {first} {last}"})
    for step in range(first, last + 1):
        tracker.log_metrics({"train/loss": 1 / step}, step)
    tracker.finish(status)
    return run_id


@pytest.fixture
def client(in_store):
    return MlflowClient(f"sqlite:///{in_store}/mlflow.db")


@pytest.fixture
def run(in_store):
    """The folder of a run that was killed after step 4."""
    start(in_store / "run", 1, 4)
    return in_store / "run"


def run_id_of(folder):
    return EventLog(folder / "tracking.jsonl").identity["run_id"]


def steps(client, run_id):
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, "train/loss"))


def losses(last):
    return [(step, 1 / step) for step in range(1, last + 1)]


def copied(run):
    return Path(shutil.copytree(run, run.with_name("copy")))


def copied_with_a_link_to_the_original(run):
    copy = copied(run)
    run.with_name("link").symlink_to(run)
    return copy


def moved(run):
    return run.rename(run.with_name("moved"))


def moved_though_another_run_is_in_its_place(run):
    new = moved(run)
    start(run, 1, 1)
    return new


def copied_and_the_original_is_gone(run):
    copy = copied(run)
    shutil.rmtree(run)
    return copy


def restored_from_a_backup(run):
    backup = copied(run)
    shutil.rmtree(run)
    return Path(shutil.copytree(backup, run))


def named_through_a_link(run):
    link = run.with_name("link")
    link.symlink_to(run)
    return link


def from_before_folders_were_noted(run):
    log = run / "tracking.jsonl"
    # Keys that say nothing, of the same length: the log counts bytes.
    log.write_text(log.read_text().replace('"folder"', '"nobody"').replace('"claim"', '"empty"'))
    MlflowClient(f"sqlite:///{run.parent}/mlflow.db").delete_tag(run_id_of(run), "bertjax.claim")
    return copied(run)


OF_ITS_OWN = (copied, copied_with_a_link_to_the_original)
THE_SAME = (
    moved,
    moved_though_another_run_is_in_its_place,
    copied_and_the_original_is_gone,
    restored_from_a_backup,
    named_through_a_link,
    from_before_folders_were_noted,
)


@pytest.mark.parametrize("change", OF_ITS_OWN, ids=lambda change: change.__name__)
def test_a_copy_has_a_run_of_its_own(run, client, change, caplog):
    caplog.set_level("INFO")
    original = run_id_of(run)
    before = client.get_run(original)
    folder = change(run)
    new = start(folder, 4, 6, "FINISHED")  # from its last checkpoint
    assert new != original
    assert f"{folder} is a copy of the folder of MLflow's run {original}" in caplog.text
    assert steps(client, new) == losses(6)
    assert client.get_run(new).data.tags["bertjax.copy_of"] == original
    assert client.get_run(new).info.status == "FINISHED"
    untouched = client.get_run(original)
    assert (untouched.data.tags, untouched.info.status) == (before.data.tags, "KILLED")
    assert steps(client, original) == losses(4)

    assert start(run, 5, 8) == original  # both go on
    assert start(folder, 7, 9) == new
    assert steps(client, original) == losses(8)
    assert steps(client, new) == losses(9)


@pytest.mark.parametrize("change", THE_SAME, ids=lambda change: change.__name__)
def test_a_folder_that_is_no_copy_goes_on_in_its_run(run, client, change):
    original = run_id_of(run)
    folder = change(run)
    assert start(folder, 4, 6, "FINISHED") == original
    assert steps(client, original) == losses(6)
    assert "bertjax.copy_of" not in client.get_run(original).data.tags


@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copy_on_another_machine_and_its_original_part(run, client, monkeypatch, first):
    """Neither sees the other's folder: whoever goes on second finds that the run has been gone on with."""
    monkeypatch.setattr(EventLog, "is_copy", lambda log: False)
    folders = [run, copied(run)] if first == "original" else [copied(run), run]
    same, new = (start(folder, 5, last) for folder, last in zip(folders, (6, 7), strict=True))
    assert same != new
    assert client.get_run(new).data.tags["bertjax.copy_of"] == same
    assert (steps(client, same), steps(client, new)) == (losses(6), losses(7))
    assert [start(folder, 8, 8) for folder in folders] == [same, new]


def test_a_start_that_was_killed_before_it_left_its_claim_goes_on(run, client, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("bertjax.tracking.mlflow_store.MlflowStore.describe", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start(run, 5, 5)
    assert start(run, 5, 5) == EventLog(run / "tracking.jsonl").identity["run_id"]
    assert steps(client, run_id_of(run)) == losses(5)


def test_a_copy_whose_original_was_deleted_in_mlflow(run, client):
    client.delete_run(run_id_of(run))
    folder = copied(run)
    MlflowTracker("bertjax").check(folder)
    new = start(folder, 5, 5)
    assert steps(client, new) == losses(5)
    assert client.get_run(new).data.params == {"epochs": "3"}


def test_the_records_that_a_copy_still_holds_are_sent_to_its_own_run(run, client, capsys):
    EventLog(run / "tracking.jsonl").record_metrics({"train/loss": 1 / 5}, 5, 0)
    original, folder = run_id_of(run), copied(run)
    assert main(["sync", str(folder)]) == 0
    assert steps(client, original) == losses(4)
    assert steps(client, run_id_of(folder)) == losses(5)
    assert client.get_run(run_id_of(folder)).info.status == "KILLED"
    assert main(["sync", str(run)]) == 0
    assert steps(client, original) == losses(5)


def test_a_copied_folder_of_several_runs(in_store, client):
    """The parent, a child that goes on, and one that has ended: all three are runs of their own."""
    parent = start(in_store / "all", 1, 1)
    for name, status in (("ended", "FINISHED"), ("going", "KILLED")):
        start(in_store / "all" / name, 1, 3, status, parent=parent)
    before = {run.info.run_id: steps(client, run.info.run_id) for run in runs_of(in_store)[1]}
    copy = Path(shutil.copytree(in_store / "all", in_store / "copy"))
    tracker = MlflowTracker("bertjax")
    tracker.connect()
    new_parent = tracker.start("copy", {}, copy)
    tracker.adopt([copy / "ended", copy / "never began"])
    start(copy / "going", 3, 5, "FINISHED", parent=new_parent)
    tracker.finish("FINISHED")

    runs = {run.info.run_id: run for run in runs_of(in_store)[1] if run.info.run_id not in before}
    assert len(runs) == 3
    for name, last in (("ended", 3), ("going", 5)):
        child = runs[run_id_of(copy / name)]
        assert child.data.tags["mlflow.parentRunId"] == new_parent
        assert child.data.params == {"epochs": "3"}
        assert child.info.status == "FINISHED"
        assert steps(client, child.info.run_id) == losses(last)
    assert {run_id: steps(client, run_id) for run_id in before} == before


SETTINGS = {
    "one setting": ({"epochs": 5}, "epochs: 3 -> 5", "epochs is 5"),
    "two settings": ({"epochs": 5, "seed": 1}, "epochs: 3 -> 5; seed: 0 -> 1", "epochs is 5; seed is 1"),
    "a list": ({"data.text": ["a", "b"]}, "data.text: ['a'] -> ['a', 'b']", "data.text is ['a', 'b']"),
    "a long one": ({"long": "y" * 9000}, f"long: {'x' * 6000} -> "[:5000], f"long is {'y' * 6000}"[:5000]),
}
FIRST = {"epochs": 3, "seed": 0, "data.text": ["a"], "long": "x" * 9000}


@pytest.mark.parametrize(("changes", "changed", "stale"), SETTINGS.values(), ids=SETTINGS)
def test_changed_settings_are_recorded(in_store, client, changes, changed, stale):
    folder = in_store / "run"
    run_id = start(folder, 1, 2, params=FIRST, tags={"command": "first", "host": "here"})
    start(folder, 3, 4, params=FIRST, tags={"command": "first", "host": "there"})
    start(folder, 5, 6, params=FIRST | changes, tags={"command": "second", "host": "there"})
    run = client.get_run(run_id)
    assert run.data.params == {key: str(value)[:6000] for key, value in FIRST.items()}  # MLflow keeps the first
    marks = {key: value for key, value in run.data.tags.items() if key.startswith(("bertjax.changed", "bertjax.stale"))}
    assert marks == {"bertjax.changed.3": changed, "bertjax.stale_params": stale}
    starts = [mlflow_json(client, run_id, f"starts/{number}.json") for number in (1, 2, 3)]
    assert [entry["tags"] for entry in starts] == [
        {"command": "first", "host": "here"}, {"command": "first", "host": "there"},
        {"command": "second", "host": "there"},
    ]  # fmt: skip
    assert [entry["params"] for entry in starts[:2]] == [run.data.params] * 2
    assert starts[2]["params"] == run.data.params | {key: str(value)[:6000] for key, value in changes.items()}

    start(folder, 7, 7, params=FIRST)  # back to the first
    tags = client.get_run(run_id).data.tags
    assert tags["bertjax.stale_params"] == "none"
    assert "bertjax.changed.4" in tags


def test_a_copy_has_the_settings_of_all_its_starts(in_store, client):
    start(in_store / "run", 1, 2, tags={"command": "first"})
    start(in_store / "run", 3, 4, params={"epochs": 4}, tags={"command": "second"})
    new = start(copied(in_store / "run"), 5, 6, params={"epochs": 5}, tags={"command": "third"})
    run = client.get_run(new)
    assert run.data.params == {"epochs": "3"}
    assert run.data.tags["bertjax.changed.2"] == "epochs: 3 -> 4"
    assert run.data.tags["bertjax.changed.3"] == "epochs: 4 -> 5"
    assert run.data.tags["bertjax.stale_params"] == "epochs is 5"
    starts = [mlflow_json(client, new, f"starts/{number}.json") for number in (1, 2, 3)]
    assert [entry["tags"]["command"] for entry in starts] == ["first", "second", "third"]
    assert [entry["params"]["epochs"] for entry in starts] == ["3", "4", "5"]


def mlflow_json(client, run_id, name):
    return json.loads(Path(client.download_artifacts(run_id, name)).read_text())
