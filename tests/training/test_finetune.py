"""Whole runs of a tiny model: what they write, that they repeat to the bit, that a stopped one ends the same."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from bertjax.data.table import Table
from bertjax.errors import ConfigError, Diverged, Interrupted, RunFolderError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Checkpointing, EarlyStopping, Evaluation, Optimizer
from tests.support.pages import table_rows


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    return FineTuneConfig(
        model=str(tiny_model),
        # The same rows twice keep the table small; every training row is a leak then.
        data=Table(str(reviews), validation=str(reviews), text=("title", "body"), label="stars", leaks="report"),
        epochs=4,
        max_length=48,
        batch_size=8,
        optimizer=Optimizer(learning_rate=1e-2),
    )


def stop_after(steps):
    """A question that is answered yes from the given time on."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= steps


def params_of(result):
    return from_pretrained(result.model_dir)[1]


def assert_same(left, right):
    assert jax.tree.all(jax.tree.map(np.array_equal, left, right))


def test_a_run_leaves_what_the_design_says(config, tmp_path):
    tracker = MemoryTracker()
    result = finetune(config, tmp_path / "run", tracker=tracker)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "environment.json", "metrics.json", "made_from.json", "report.html", "report.md",
        "slices.json", "checkpoints", "model",
    }  # fmt: skip
    assert json.loads((tmp_path / "run" / "config.json").read_text())["optimizer.learning_rate"] == 1e-2
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics == result.metrics
    assert {"test/accuracy", "test/f1_weighted", "test/f1_macro", "train/examples_per_second"} < set(metrics)
    assert {"train/real_token_share", "train/compiles", "train/seconds"} < set(metrics)
    assert metrics["train/compiles"] <= 2
    assert metrics["train/compile_seconds"] > 0
    assert 0 < metrics["train/seconds_to_first_step"] < metrics["train/seconds"]
    assert (result.model_dir / "tokenizer.json").is_file()
    assert from_pretrained(result.model_dir)[0].labels == ("bad", "good")

    steps = [step for step, values in tracker.metrics if "train/loss" in values and "train/grad_norm" in values]
    assert steps == list(range(1, 25))  # 48 training rows, 8 an update, 4 epochs
    epochs = [values for _, values in tracker.metrics if "epoch" in values]
    assert [values["epoch"] for values in epochs] == [1, 2, 3, 4]
    assert "validation/accuracy" in epochs[0]
    assert tracker.status == "FINISHED"
    assert tracker.params["data.label"] == "stars"
    assert tracker.models == [(result.model_dir, None)]
    assert [dataset.side for dataset in tracker.datasets] == ["train", "validation", "test"]
    assert [dataset.num_rows for dataset in tracker.datasets] == [48, 60, 12]
    assert {dataset.source for dataset in tracker.datasets} == {config.data.train}
    assert len({dataset.digest for dataset in tracker.datasets}) == 3
    assert tracker.tags["device_count"] == "2"


def test_a_run_says_what_became_of_its_rows(config, tmp_path, reviews):
    contract = tmp_path / "promises.json"
    contract.write_text('{"columns": {"title": "text"}, "labels": ["good", "bad"], "min_rows": 60}')
    validation = tmp_path / "validation.csv"
    validation.write_text("title,body,stars\nTHE  film,good and great .,good\nso what,very bad .,bad\n")
    data = replace(config.data, contract=str(contract), validation=str(validation), leaks="remove")
    tracker = MemoryTracker()
    result = finetune(replace(config, data=data, epochs=1), tmp_path / "run", tracker=tracker)
    found = json.loads((result.folder / "contract.json").read_text())
    assert found["contract"] == str(contract)
    assert [(table["source"], table["rows"]) for table in found["tables"]] == [(str(reviews), 60), (str(validation), 2)]
    assert found["tables"][0]["expectations"][-1] == {
        "expectation": "there are 60 rows or more", "holds": True, "failures": 0, "examples": [],
    }  # fmt: skip
    assert "contract.json" in {path.name for path in tracker.artifacts}
    page = (result.folder / "report.html").read_text()
    assert ["'stars' is one of good, bad", "yes", "0"] in table_rows(page)
    assert [f"rows of {validation}", "2"] in table_rows(page)
    assert (result.metrics["data/leaks"], result.metrics["data/leaks_removed"]) == (1, 1)

    again = replace(config, data=replace(data, contract=None), epochs=1)
    finetune(again, result.folder, if_exists="overwrite", tracker=MemoryTracker())
    assert not (result.folder / "contract.json").exists()  # of another run


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(config, tmp_path):
    first, second = (finetune(config, tmp_path / name, tracker=MemoryTracker()) for name in "ab")
    other = finetune(replace(config, seed=1), tmp_path / "c", tracker=MemoryTracker())
    assert_same(params_of(first), params_of(second))
    assert not np.array_equal(params_of(first)["classifier"]["w"], params_of(other)["classifier"]["w"])


@pytest.mark.parametrize("steps", [3, 6, 17])
def test_a_stopped_run_continues_to_the_same_bits(config, tmp_path, steps):
    whole_tracker = MemoryTracker()
    whole = finetune(config, tmp_path / "whole", tracker=whole_tracker)
    before, after = MemoryTracker(), MemoryTracker()
    with pytest.raises(Interrupted, match=f"stopped after step {steps} of 24"):
        finetune(config, tmp_path / "run", tracker=before, should_stop=stop_after(steps))
    assert before.status == "KILLED"
    assert not (tmp_path / "run" / "metrics.json").exists()
    resumed = finetune(config, tmp_path / "run", if_exists="resume", tracker=after)
    assert_same(params_of(whole), params_of(resumed))

    def losses(*trackers):
        return [(step, values["train/loss"]) for tracker in trackers for step, values in tracker.metrics
                if "train/grad_norm" in values]  # fmt: skip

    assert losses(before, after) == losses(whole_tracker)
    assert resumed.metrics["train/loss"] == whole.metrics["train/loss"]


def test_a_run_stops_when_it_gets_no_better_and_keeps_the_best(config, tmp_path):
    """The tiny model has all validation rows right after a while; from then on nothing is better."""
    patient = replace(
        config,
        epochs=10,
        evaluation=Evaluation(evaluate_every=3, evaluate_unit="steps", final_weights="best"),
        early_stopping=EarlyStopping(patience=8),
        checkpointing=Checkpointing(save_every=5, save_unit="steps", keep_checkpoints=1),
    )
    tracker = MemoryTracker()
    result = finetune(patient, tmp_path / "run", tracker=tracker)
    accuracies = {step: row["validation/accuracy"] for step, row in tracker.metrics if "validation/accuracy" in row}
    best = int(result.metrics["train/model_step"])
    assert list(accuracies) == list(range(3, best + 25, 3))
    assert accuracies[best] == max(accuracies.values()) > max(accuracies[step] for step in accuracies if step < best)
    assert result.metrics["train/steps"] == best + 24 < 60
    saved = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert saved == {str(best), str(best + 24)}
    best_state = ocp.PyTreeCheckpointer().restore(tmp_path / "run" / "checkpoints" / str(best) / "state")
    assert_same(params_of(result), best_state["params"])

    again = finetune(patient, tmp_path / "run", if_exists="resume", tracker=MemoryTracker())
    assert again.metrics["train/steps"] == best + 24  # it was finished
    assert_same(params_of(result), params_of(again))


def test_packing_off_learns_the_same(config, tmp_path):
    """The same examples share an update, so without dropout the losses are the same numbers."""
    plain = replace(config, dropout_rate=0.0, epochs=2)
    on, off = MemoryTracker(), MemoryTracker()
    packed = finetune(plain, tmp_path / "on", tracker=on)
    padded = finetune(replace(plain, packing="off"), tmp_path / "off", tracker=off)
    assert packed.metrics["train/real_token_share"] > padded.metrics["train/real_token_share"]

    def losses(tracker):
        return [values["train/loss"] for _, values in tracker.metrics if "train/grad_norm" in values]

    np.testing.assert_allclose(losses(on), losses(off), atol=1e-5)  # float32 over 12 steps of Adam


def test_another_run_is_never_overwritten_by_accident(config, tmp_path):
    short = replace(config, epochs=1)
    out = tmp_path / "run"
    finetune(short, out, tracker=MemoryTracker())
    written = (out / "metrics.json").read_bytes()
    with pytest.raises(RunFolderError, match="already holds a run; continue it with --resume"):
        finetune(short, out, tracker=MemoryTracker())
    with pytest.raises(RunFolderError, match="other settings or data: batch_size was 8, now 4"):
        finetune(replace(short, batch_size=4), out, if_exists="resume", tracker=MemoryTracker())
    assert (out / "metrics.json").read_bytes() == written
    finetune(replace(short, batch_size=4), out, if_exists="overwrite", tracker=MemoryTracker())
    assert json.loads((out / "config.json").read_text())["batch_size"] == 4


def test_folders_that_are_no_run(config, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match="holds files that are no run"):
        finetune(config, tmp_path / "mine", if_exists="overwrite", tracker=MemoryTracker())
    with pytest.raises(RunFolderError, match="holds no run to resume"):
        finetune(config, tmp_path / "none", if_exists="resume", tracker=MemoryTracker())
    with pytest.raises(ConfigError, match="--resume needs --out"):
        finetune(config, if_exists="resume", tracker=MemoryTracker())
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="is a file"):
        finetune(config, tmp_path / "file", tracker=MemoryTracker())


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(config, tmp_path):
    """As the same run: what starts it again, a scheduler say, need not know how far it had come."""
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "run", tracker=MemoryTracker(), should_stop=stop_after(3))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    tracker = MemoryTracker()
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "run", if_exists="resume", tracker=tracker, should_stop=stop_after(2))
    assert [step for step, values in tracker.metrics if "train/loss" in values] == [1, 2]


def test_a_run_is_not_continued_with_something_else_unless_that_is_allowed(config, tmp_path, reviews):
    table = tmp_path / "reviews.csv"
    table.write_bytes(reviews.read_bytes())
    config = replace(config, data=replace(config.data, train=str(table)))
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "run", tracker=MemoryTracker(), should_stop=stop_after(3))
    table.write_text(table.read_text().replace("the film", "the movie"))
    kept = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(
        RunFolderError, match=r"train_rows was '\w{16}', now '\w{16}'; --allow-changed continues anyway"
    ):
        finetune(config, tmp_path / "run", if_exists="resume", tracker=MemoryTracker())
    changed = replace(config, optimizer=replace(config.optimizer, learning_rate=1e-3))
    with pytest.raises(RunFolderError, match=r"optimizer.learning_rate was 0.01, now 0.001; --allow-changed"):
        finetune(changed, tmp_path / "run", if_exists="resume", tracker=MemoryTracker())
    assert kept == {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}

    with pytest.raises(Interrupted, match="stopped after step 5 of 24"):
        finetune(
            changed, tmp_path / "run", if_exists="resume_changed", tracker=MemoryTracker(),
            should_stop=stop_after(2),
        )  # fmt: skip
    assert json.loads((tmp_path / "run" / "config.json").read_text())["optimizer.learning_rate"] == 1e-3
    starts = json.loads((tmp_path / "run" / "environment.json").read_text())["starts"]
    assert len(starts) == 2
    assert starts[0]["train_rows"] != starts[1]["train_rows"]
    assert starts[0]["weights"] == starts[1]["weights"]
    assert {"command", "seed", "packages", "device_kind", "python"} < set(starts[1])


def test_a_run_that_diverges_says_where_and_keeps_what_was_good(config, tmp_path):
    """The first step takes the weights so far that no later one is finite."""
    wild = replace(config.optimizer, learning_rate=1e37, warmup=0.0)
    saving = Checkpointing(save_every=1, save_unit="steps", keep_checkpoints=9)
    diverging = replace(config, optimizer=wild, checkpointing=saving, early_stopping=EarlyStopping(max_skipped_steps=3))
    tracker = MemoryTracker()
    message = r"3 steps in a row were skipped, the last of them step 4: the gradient of .* is not finite; the check"
    with pytest.raises(Diverged, match=message):
        finetune(diverging, tmp_path / "run", tracker=tracker)
    assert tracker.status == "FAILED"
    assert [values["train/skipped_steps"] for _, values in tracker.metrics if "train/skipped_steps" in values] == [1, 2]
    assert not (tmp_path / "run" / "model").exists()
    saved = ocp.PyTreeCheckpointer().restore(tmp_path / "run" / "checkpoints" / "3" / "state")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved["params"]))
