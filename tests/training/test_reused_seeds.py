"""Seeds that have ended are kept for what they were made from, and not for their name."""

import json
import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.errors import RunFolderError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.training.loop.progress import NoProgress
from bertjax.training.multi.multi_seed import finetune_seeds, read_scores
from bertjax.training.multi.seed_plan import plan_seeds
from bertjax.training.run.made_from import read_made_from
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer
from tests.support.tables import flip_labels
from tests.support.tracking import Trackers


def config_of(folder: Path, **settings) -> FineTuneConfig:
    """At a constant rate, so that a run that goes on for more epochs is one that had them from the beginning."""
    return FineTuneConfig(
        model=str(folder / "model"),
        data=Table(str(folder / "reviews.csv"), text=("title", "body"), label="stars"),
        max_length=48,
        batch_size=16,
        optimizer=Optimizer(learning_rate=1e-2, schedule="constant", warmup=0.0),
        **{"epochs": 1, **settings},
    )


def run(config, seeds, out, if_exists="error", stack=False, **settings):
    return finetune_seeds(config, seeds, out, if_exists=if_exists, stack=stack, new_tracker=Trackers(), **settings)


def scores(metrics):
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


@pytest.fixture
def source(tiny_model, reviews, tmp_path) -> Path:
    """A folder with a table and a model."""
    shutil.copy(reviews, tmp_path / "reviews.csv")
    shutil.copytree(tiny_model, tmp_path / "model")
    return tmp_path


# What changes, and whether the seeds before and after it are stacked.
CASES = {
    "rows": ("rows", False, False),
    "rows of one seed, then of stacked ones": ("rows", False, True),
    "epochs of stacked seeds, then of separate ones": ("epochs", True, False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_was_made_from_something_else_is_refused_or_made_anew(source, caplog, case):
    """The truth: all seeds in a new folder, from what there is now."""
    (change, before, after), out, config = case, source / "s", config_of(source)
    run(config, (0,), out, stack=before)
    kept = (out / "seed-0" / "metrics.json").read_bytes()
    message = r"seed 0 was made from .*: test_rows was .*train_rows was"
    if change == "rows":
        flip_labels(source / "reviews.csv")
    else:
        config, message = replace(config, epochs=2), "epochs was 1, now 2"
    with pytest.raises(RunFolderError, match=message) as refusal:
        run(config, (0, 1), out, "resume", stack=after)
    assert "--allow-changed" in str(refusal.value)
    assert not (out / "seed-1").exists()
    assert (out / "seed-0" / "metrics.json").read_bytes() == kept

    with caplog.at_level(logging.WARNING, logger="bertjax"):
        result = run(config, (0, 1), out, "resume_changed", stack=after)
    assert len([line for line in caplog.messages if line.startswith("seed 0 was made from something else")]) == 1
    truth = run(config, (0, 1), source / "new")
    for seed in (0, 1):
        assert scores(result.runs[seed]) == pytest.approx(scores(truth.runs[seed]), abs=1e-6)
        assert read_made_from(out / f"seed-{seed}") == read_made_from(source / "new" / f"seed-{seed}")
        assert result.runs[seed]["train/steps"] == truth.runs[seed]["train/steps"]
    assert scores(result.metrics) == pytest.approx(scores(truth.metrics), abs=1e-6)
    assert json.loads((out / "config.json").read_text())["epochs"] == config.epochs
    assert (out / "made_from.json").read_bytes() == (source / "new" / "made_from.json").read_bytes()
    assert read_scores(out, (0, 1)) == result.scores

    again = run(config, (0, 1), out, "resume")  # nothing is left to do
    assert again.metrics == result.metrics


@pytest.fixture(scope="module")
def begun(tiny_model, reviews, tmp_path_factory) -> Path:
    """Seed 0 has ended, beside its table and its model; nothing here hangs on where the folder is."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copy(reviews, folder / "reviews.csv")
    shutil.copytree(tiny_model, folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(config_of(Path()), (0,), "s")
    return folder


SEED = Path("s/seed-0")


def flip() -> None:
    flip_labels(Path("reviews.csv"))


def other_weights() -> None:
    model, params = from_pretrained("model")
    save_pretrained("model", model, jax.tree.map(lambda leaf: leaf + 1, params), load_tokenizer(Path("model")))


def of_version(version: str) -> None:
    path = SEED / "made_from.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bertjax": version}))


def unrecorded() -> None:
    """As earlier versions left a seed: its hashes are in the record of its start."""
    (SEED / "made_from.json").unlink()


def without_hashes() -> None:
    """As a version left a seed that recorded no hashes."""
    unrecorded()
    (SEED / "environment.json").unlink()


def diverged() -> None:
    """The seed has no result, and why."""
    for name in ("metrics.json", "made_from.json"):
        (SEED / name).unlink()
    (SEED / "diverged.txt").write_text("too high a rate")


def without_checkpoints() -> None:
    shutil.rmtree(SEED / "checkpoints")


# What has happened to seed 0, what is asked for now, what is different, and how its run begins where that is allowed.
PLANS = {
    "nothing": ([], {}, None, None),
    "rows": ([flip], {}, "train_rows was ", "overwrite"),
    "weights": ([other_weights], {}, "weights was ", "overwrite"),
    "epochs": ([], {"epochs": 2}, "epochs was 1, now 2", "resume_changed"),
    "epochs, and its checkpoints are gone": ([without_checkpoints], {"epochs": 2}, "epochs was", "overwrite"),
    "checkpoints are gone": ([without_checkpoints], {}, None, None),
    "version": ([partial(of_version, "0.0.1")], {}, r"bertjax was '0\.0\.1', now ", "resume_changed"),
    "nothing since an earlier version": ([unrecorded], {}, None, None),
    "rows since an earlier version": ([unrecorded, flip], {}, "train_rows was ", "overwrite"),
    "rows since a version that recorded none": ([without_hashes, flip], {}, None, None),
    "rows, and the seed diverged": ([diverged, flip], {}, "train_rows was ", "overwrite"),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_seed_is_kept_for_what_it_was_made_from(begun, tmp_path, monkeypatch, plan):
    changes, settings, message, policy = plan
    shutil.copytree(begun, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    for change in changes:
        change()
    config = config_of(Path(), **settings).resolved()
    if message is None:
        for if_exists in ("resume", "resume_changed"):
            found = plan_seeds(config, Path("s"), (0, 1), if_exists)
            assert (list(found.finished), found.missing) == ([0], {1: "error"})
        return
    with pytest.raises(RunFolderError, match=rf"s: seed 0 was made from other settings or data .*: .*{message}"):
        plan_seeds(config, Path("s"), (0, 1), "resume")
    found = plan_seeds(config, Path("s"), (0, 1), "resume_changed")
    assert (found.finished, found.diverged, found.missing) == ({}, {}, {0: policy, 1: "error"})


def test_rows_that_change_while_seeds_train(source):
    """Each run reads the table for itself; none trains on other rows than the seeds before it."""
    config, out = config_of(source), source / "s"

    def flipping():
        flip_labels(source / "reviews.csv")
        return NoProgress()

    with pytest.raises(
        RunFolderError, match=r"changed since the seeds began: .*train_rows was .*continues with seed 1"
    ):
        run(config, (0, 1), out, new_progress=flipping)
    assert not (out / "seed-1").exists()
    assert not (out / "metrics.json").exists()
    assert list(read_scores(out, (0, 1))) == [0]
    flip_labels(source / "reviews.csv")
    assert list(run(config, (0, 1), out, "resume").runs) == [0, 1]
