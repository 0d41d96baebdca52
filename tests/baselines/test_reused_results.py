"""Results of earlier starts of a comparison are kept for what they were made from, and not for their place."""

import json
import logging
import shutil
from pathlib import Path

import jax
import pytest

from bertjax.baselines.compare import comparison
from bertjax.baselines.compare.comparison import compare
from bertjax.baselines.runners.runner_result import read_result
from bertjax.cli.main import main
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.errors import RunFolderError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.training.run.run_folder import stored_settings
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.processes import complaint
from tests.support.tables import flip_labels
from tests.support.tracking import Trackers


@pytest.fixture(scope="module")
def first(tiny_model, reviews, tmp_path_factory) -> Path:
    """A folder with a table, a model, and a comparison of one run."""
    folder = tmp_path_factory.mktemp("first")
    shutil.copy(reviews, folder / "reviews.csv")
    shutil.copytree(tiny_model, folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compare(config_of(), ("jax",), (3,), "both", new_tracker=Trackers())
    return folder


def config_of(**settings) -> FineTuneConfig:
    table = Table("reviews.csv", text=("title", "body"), label="stars")
    return FineTuneConfig("./model", table, epochs=1, max_length=48, batch_size=16, **settings)


@pytest.fixture
def in_copy(first, tmp_path, monkeypatch) -> Path:
    shutil.copytree(first, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def processes(monkeypatch):
    """Processes that were started; they do nothing."""
    started = []

    def run(command, log):
        started.append(command[4:])
        return 1

    monkeypatch.setattr(comparison, "_process", run)
    return started


def other_weights() -> None:
    model, params = from_pretrained("model")
    moved = jax.tree.map(lambda leaf: leaf + 1, params)
    save_pretrained("model", model, moved, load_tokenizer(Path("model")))


def newer_packages() -> None:
    path = Path("both/jax-3/result.json")
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"versions": values["versions"] | {"jax": "0.0.1"}}))


def of_an_earlier_version() -> None:
    """Which did not say what a result was made from; its labels are known."""
    path = Path("both/jax-3/result.json")
    values = json.loads(path.read_text())
    del values["made_from"]
    path.write_text(json.dumps(values | {"labels": ["a", "b"]}))


CHANGES = {
    "rows": (lambda: flip_labels(Path("reviews.csv")), "train_rows was "),
    "weights": (other_weights, "weights was "),
    "package": (newer_packages, "jax was '0.0.1', now "),
    "labels, with a result of an earlier version": (of_an_earlier_version, r"labels was \['a', 'b'\], now "),
}


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
def test_a_result_that_was_made_from_something_else_is_refused_or_run_again(in_copy, processes, caplog, case):
    change, message = case
    change()
    before = {path: path.read_bytes() for path in Path("both").rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match=rf"both: jax-3 was made from .*: .*{message}.*--allow-changed") as refusal:
        compare(config_of(), ("jax",), (3, 4), "both", if_exists="resume", new_tracker=Trackers())
    assert "\n" not in str(refusal.value)
    assert {path: path.read_bytes() for path in Path("both").rglob("*") if path.is_file()} == before
    assert processes == []
    with caplog.at_level(logging.WARNING, logger="bertjax"):
        compare(config_of(), ("jax",), (3, 4), "both", if_exists="resume_changed", new_tracker=Trackers())
    assert [command[:2] for command in processes] == [["jax", "3"], ["jax", "4"]]
    assert [line for line in caplog.messages if line.startswith("JAX, seed 3 was made from something else (")]


def test_what_is_kept(in_copy, processes):
    """A result made from the same, also one of an earlier version, which did not say what it was made from."""
    compare(config_of(), ("jax",), (3,), "both", if_exists="resume", new_tracker=Trackers())
    path = Path("both/jax-3/result.json")
    values = json.loads(path.read_text())
    assert values.pop("made_from")["train_rows"]
    path.write_text(json.dumps(values))
    compare(config_of(), ("jax",), (3,), "both", if_exists="resume", new_tracker=Trackers())
    assert processes == []
    made_from = json.loads(Path("both/made_from.json").read_text())
    assert (made_from["frameworks"], made_from["seeds"], made_from["epochs"]) == (["jax"], [3], 1)
    assert made_from["train_rows"] in Path("both/report.html").read_text()


def test_the_model_of_a_kept_result_is_made_where_it_is_wanted_now(in_copy, processes, caplog):
    with caplog.at_level(logging.WARNING, logger="bertjax"):
        compare(config_of(), ("jax",), (3,), "both", if_exists="resume", keep_models=True, new_tracker=Trackers())
    assert "JAX, seed 3 left no model, which is wanted now: it runs again" in caplog.messages
    assert processes[0] == ["jax", "3", "--keep-model"]


def test_rows_that_change_while_the_comparison_runs(in_copy, first, monkeypatch):
    """The process of each run reads the table for itself: here one that had other labels than the comparison."""

    def run(command, log):
        shutil.copytree(first / "both" / "jax-3", Path("other/jax-3"), dirs_exist_ok=True)
        return 0

    flip_labels(Path("reviews.csv"))
    monkeypatch.setattr(comparison, "_process", run)
    (failure,) = compare(config_of(), ("jax",), (3,), "other", new_tracker=Trackers()).failures
    assert failure.error.startswith("something has changed since the comparison began: test_rows was ")


def test_changed_settings_are_those_of_every_run(in_copy, capsys):
    """From the command line: the processes of the runs read the settings at hand."""
    job = ["--model", "./model", "--train", "reviews.csv", "--text-columns", "title", "body", "--label-column", "stars"]
    flags = ["--frameworks", "jax", "--seeds", "3", "--max-length", "48", "--batch-size", "16", "--epochs", "2"]
    command = ["compare", *job, *flags, "--out", "both", "--resume"]
    assert main(command) == 2
    assert "epochs was 1, now 2; --allow-changed" in complaint(capsys.readouterr().err)
    assert main([*command, "--allow-changed"]) == 0
    result = read_result(Path("both/jax-3"))
    assert result is not None
    assert len(result.losses) == 6
    assert (result.made_from["epochs"], stored_settings(Path("both"))["epochs"]) == (2, 2)
