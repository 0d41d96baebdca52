"""Runs that an earlier version began: their settings are read by their old names, and they are resumed."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from bertjax import FineTuneConfig
from bertjax.errors import RunFolderError
from bertjax.settings import override
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.run_folder import stored_settings

LOSS = 0.6831309795379639  # of the last epoch


@pytest.fixture
def stopped_run(tmp_path, monkeypatch) -> Path:
    """A run that version 0.1.0 stopped after step 13 of 20, beside its model and its table."""
    with zipfile.ZipFile(Path(__file__).with_name("stopped_run_0.1.0.zip")) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("stopped")


def test_a_run_of_an_earlier_version_is_resumed(stopped_run):
    """Its files have the settings groups `evaluating`, `stopping`, `saving` and `regularizing`."""
    assert "stopping.patience" in json.loads((stopped_run / "config.json").read_text())
    config = override(FineTuneConfig(), stored_settings(stopped_run))
    assert config.early_stopping.patience == 20
    assert (config.evaluation.evaluate_every, config.evaluation.evaluate_unit) == (3, "steps")
    assert (config.checkpointing.keep_checkpoints, config.regularization.r_drop) == (1, 1.0)
    changed = replace(config, early_stopping=replace(config.early_stopping, patience=5))
    with pytest.raises(RunFolderError, match=r"early_stopping\.patience was 20, now 5; --allow-changed"):
        finetune(changed, stopped_run, if_exists="resume", tracker=MemoryTracker())
    # Dropout masks are other ones since.
    with pytest.raises(RunFolderError, match=r"bertjax was '0\.1\.0', now .*; --allow-changed continues anyway"):
        finetune(config, stopped_run, if_exists="resume", tracker=MemoryTracker())
    tracker = MemoryTracker()
    result = finetune(config, stopped_run, if_exists="resume_changed", tracker=tracker)
    assert [step for step, row in tracker.metrics if "train/grad_norm" in row] == list(range(14, 21))
    assert result.metrics["train/steps"] == 20
    # What the earlier version reached without a stop, but for the masks of the last steps.
    assert result.metrics["train/loss"] == pytest.approx(LOSS, rel=5e-3)
    assert "early_stopping.patience" in json.loads((stopped_run / "config.json").read_text())
