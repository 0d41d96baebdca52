"""Seeds that have ended are kept for what they were made from, and not for their name."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from bertjax.data.table import Table
from bertjax.errors import RunFolderError
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.run.made_from import read_made_from
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer
from tests.support.tables import flip_labels
from tests.support.tracking import Trackers


@pytest.fixture
def config(tiny_model, reviews, tmp_path) -> FineTuneConfig:
    """At a constant rate, so that a run that goes on for more epochs is one that had them from the beginning."""
    table = tmp_path / "reviews.csv"
    table.write_text(reviews.read_text())
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(table), text=("title", "body"), label="stars"),
        epochs=1,
        max_length=48,
        batch_size=16,
        optimizer=Optimizer(learning_rate=1e-2, schedule="constant", warmup=0.0),
    )


def run(config, seeds, out, if_exists="error", stack=False, **settings):
    return finetune_seeds(config, seeds, out, if_exists=if_exists, stack=stack, new_tracker=Trackers(), **settings)


def scores(metrics):
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


CHANGES = {
    "rows": (
        lambda config: flip_labels(Path(config.data.train)),
        {},
        r"seed 0 was made from .*: test_rows was .*train_rows was",
    ),
    "epochs": (lambda config: None, {"epochs": 2}, "epochs was 1, now 2"),
}
# What changes, and whether the seeds before and after it are stacked.
CASES = {
    "rows": ("rows", False, False),
    "rows of stacked seeds": ("rows", True, True),
    "rows of one seed, then of stacked ones": ("rows", False, True),
    "epochs": ("epochs", False, False),
    "epochs of stacked seeds, then of separate ones": ("epochs", True, False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_was_made_from_something_else_is_refused_or_made_anew(config, tmp_path, caplog, case):
    """The truth: all seeds in a new folder, from what there is now."""
    (name, before, after), out = case, tmp_path / "s"
    change, settings, message = CHANGES[name]
    run(config, (0,), out, stack=before)
    kept = (out / "seed-0" / "metrics.json").read_bytes()
    change(config)
    config = replace(config, **settings)
    with pytest.raises(RunFolderError, match=message) as refusal:
        run(config, (0, 1), out, "resume", stack=after)
    assert "--allow-changed" in str(refusal.value)
    assert not (out / "seed-1").exists()
    assert (out / "seed-0" / "metrics.json").read_bytes() == kept

    with caplog.at_level(logging.WARNING, logger="bertjax"):
        result = run(config, (0, 1), out, "resume_changed", stack=after)
    assert len([line for line in caplog.messages if line.startswith("seed 0 was made from something else")]) == 1
    truth = run(config, (0, 1), tmp_path / "new")
    for seed in (0, 1):
        assert scores(result.runs[seed]) == pytest.approx(scores(truth.runs[seed]), abs=1e-6)
        assert read_made_from(out / f"seed-{seed}") == read_made_from(tmp_path / "new" / f"seed-{seed}")
        assert result.runs[seed]["train/steps"] == truth.runs[seed]["train/steps"]
    assert scores(result.metrics) == pytest.approx(scores(truth.metrics), abs=1e-6)
    assert json.loads((out / "config.json").read_text())["epochs"] == config.epochs
    assert (out / "made_from.json").read_bytes() == (tmp_path / "new" / "made_from.json").read_bytes()

    again = run(config, (0, 1), out, "resume")  # nothing is left to do
    assert again.metrics == result.metrics
