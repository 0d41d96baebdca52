"""Trials are compared where they were made from the same, and a sweep says so before it trains on something else."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from bertjax.cli.main import main
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.errors import RunFolderError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.sweeps import driver, same_inputs, trial
from bertjax.sweeps.driver import run_sweep
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.same_inputs import check_trials
from bertjax.sweeps.search_space import Grid
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import TuneReporter
from bertjax.tracking import event_log
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.processes import complaint
from tests.support.tables import flip_labels


def sweep_of(**base) -> Sweep:
    """Of two trials, with the table and the model of the current folder."""
    table = Table("reviews.csv", text=("title", "body"), label="stars", validation_size=0.25)
    config = FineTuneConfig("./model", table, epochs=1, max_length=48, batch_size=16, **base)
    return Sweep(config, {"optimizer.learning_rate": Grid((1e-3, 1e-2))}, searcher="grid", concurrency=1, retries=0)


@pytest.fixture(scope="module")
def begun(tiny_model, reviews, tmp_path_factory) -> Path:
    """A sweep of which trial 0 has ended, and trial 1 has not begun."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copy(reviews, folder / "reviews.csv")
    shutil.copytree(tiny_model, folder / "model")
    sweep, ledger = sweep_of(), Ledger(folder / "s")
    ledger.open(sweep)
    for number, rate in enumerate((1e-3, 1e-2)):
        ledger.record(number, drawn={}, values={"optimizer.learning_rate": rate}, ray_id=str(number))
    tracker, run = MemoryTracker(), ledger.run_folder(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finetune(sweep.trial_config(ledger.trials()[0].values), run, tracker=tracker)
    log = EventLog(run / event_log.FILE)
    for step, metrics in tracker.metrics:
        log.record_metrics(metrics, step, 0)
    log.record({"status": "FINISHED", "time_ms": 0})
    ledger.record(0, status="finished")
    return folder


@pytest.fixture
def ledger(begun, tmp_path, monkeypatch) -> Ledger:
    """Of a copy of the sweep, in the current folder, without Ray."""
    shutil.copytree(begun, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setattr(same_inputs, "run_in_worker", lambda sweep, function, *arguments: function(*arguments))
    return Ledger(Path("s"))


def flip() -> None:
    flip_labels(Path("reviews.csv"))


def other_weights() -> None:
    model, params = from_pretrained("model")
    save_pretrained("model", model, jax.tree.map(lambda leaf: leaf + 1, params), load_tokenizer(Path("model")))


def other_version() -> None:
    """The trial was made by a version whose fingerprints had another value."""
    path = Path("s/trials/000/made_from.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_length": 47}))


def unrecorded() -> None:
    """As earlier versions left a trial: its hashes are in the record of its start."""
    Path("s/trials/000/made_from.json").unlink()


def unknown() -> None:
    """As a version left a trial that recorded no hashes at all."""
    unrecorded()
    Path("s/trials/000/environment.json").unlink()
    flip()


def unrecorded_and_flipped() -> None:
    unrecorded()
    flip()


NEVER, ASKED, ALWAYS = "refused", "refused, unless it is allowed", "compared"
CASES = {
    "nothing": (lambda: None, ALWAYS, ""),
    "rows": (flip, NEVER, "train_rows was "),
    "weights": (other_weights, NEVER, "weights was "),
    "what is no input": (other_version, ASKED, "max_length was 47, now 48"),
    "nothing, in a sweep of an earlier version": (unrecorded, ALWAYS, ""),
    "rows, in a sweep of an earlier version": (unrecorded_and_flipped, NEVER, "train_rows was "),
    "rows, in a sweep that recorded none": (unknown, ALWAYS, ""),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_has_changed_is_told_before_a_trial_starts(ledger, caplog, case):
    change, fate, message = case
    change()
    if fate == ALWAYS:
        check_trials(sweep_of(), ledger, allow_changed=False)
        return
    with pytest.raises(RunFolderError, match=rf"trial 0 was made from something else .*: .*{message}") as refusal:
        check_trials(sweep_of(), ledger, allow_changed=False)
    assert ("--allow-changed" in str(refusal.value)) == (fate == ASKED)
    if fate == NEVER:
        with pytest.raises(RunFolderError, match="scores on other data are not compared"):
            check_trials(sweep_of(), ledger, allow_changed=True)
    else:
        with caplog.at_level(logging.WARNING, logger="bertjax"):
            check_trials(sweep_of(), ledger, allow_changed=True)
        assert [line for line in caplog.messages if line.endswith("they are compared all the same")]


def test_trials_of_other_tables_are_not_compared_with_them(ledger):
    """A space may vary the table: each trial is held against those of its own."""
    shutil.copy("reviews.csv", "other.csv")
    flip_labels(Path("other.csv"))
    base = sweep_of()
    sweep = replace(base, space={"data.train": Grid(("reviews.csv", "other.csv"))})
    ledger.open(sweep)
    (Path("s") / "trials.jsonl").unlink()
    varied = Ledger(Path("s"))
    for number, name in enumerate(("reviews.csv", "other.csv")):
        varied.record(number, drawn={}, values={"data.train": name}, ray_id=str(number))
    same_inputs.check_same_inputs(sweep, varied, 1, {"train_rows": "another", "weights": "another"})
    varied.record(1, values={"data.train": "reviews.csv"})
    with pytest.raises(RunFolderError, match=r"something has changed since trial 0: .*train_rows was"):
        same_inputs.check_same_inputs(sweep, varied, 1, {"train_rows": "another"})


def test_rows_that_change_while_the_sweep_runs(ledger, monkeypatch):
    """A trial reads the table for itself; it does not train on other rows than the trial before it."""
    monkeypatch.setattr(trial, "tracker_of", lambda *arguments, **settings: MemoryTracker())
    flip()
    reporter = TuneReporter(sweep_of().best_metric, 1, 0)
    with pytest.raises(RunFolderError, match=r"something has changed since trial 0: .*train_rows was .*put it back"):
        trial._train(sweep_of(), ledger, ledger.trials()[1], reporter, "parent", allow_changed=False)
    assert not ledger.run_folder(1).exists()


@pytest.mark.ray
def test_a_resumed_sweep_ends_where_its_rows_have_changed(begun, in_store, ray_session, monkeypatch, capsys):
    """No trial counts as failed that did not fail by its settings: with the old rows, the next driver runs it."""
    shutil.copytree(begun, in_store, dirs_exist_ok=True)
    flip()
    assert main(["sweep", "--resume", "s"]) == 2
    assert "trial 0 was made from something else than new ones would be: " in complaint(capsys.readouterr().err)
    assert not (in_store / "s" / "tracking.jsonl").exists()

    monkeypatch.setattr(driver, "check_trials", lambda *arguments: None)  # they change after the look
    with pytest.raises(RunFolderError, match="something has changed since trial 0: "):
        run_sweep(sweep_of(), "s", if_exists="resume")
    assert [trial.status for trial in Ledger(in_store / "s").trials()] == ["finished", "running"]
    assert not (in_store / "s" / "trials" / "001").exists()
