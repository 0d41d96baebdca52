"""Runs on probabilities: packed as padded, resumed as uninterrupted, certain ones as classes, judged by classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bertjax.baselines.runners.frameworks import check_job
from bertjax.data.table import Table
from bertjax.errors import ConfigError, Interrupted
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepare import prepare
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Imbalance, Optimizer
from tests.support.tables import TEXTS
from tests.support.tracking import stop_after


def losses(tracker: MemoryTracker) -> list[float]:
    """The training loss of every step."""
    return [row["train/loss"] for _, row in tracker.metrics if "train/grad_norm" in row]


@pytest.fixture
def config(tiny_model, tmp_path):
    """32 training rows with probabilities, 16 test rows with labels."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(3, 0.5), 32)
    weak = pd.DataFrame({"text": TEXTS[:32], **{f"p_{name}": shares[:, i] for i, name in enumerate("xyz")}})
    weak.to_parquet(tmp_path / "weak.parquet")
    pd.DataFrame({"text": TEXTS[32:], "label": ["xyz"[i % 3] for i in range(16)]}).to_csv(tmp_path / "test.csv")
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(tmp_path / "weak.parquet"), test=str(tmp_path / "test.csv"), label_probabilities="p_"),
        epochs=1,
        max_length=32,
        batch_size=8,
        dropout_rate=0.0,
        optimizer=Optimizer(learning_rate=1e-2),
    )


def test_a_run_is_packed_resumed_and_judged_as_any_other(config, tmp_path):
    whole = MemoryTracker()
    result = finetune(config, tmp_path / "whole", tracker=whole)
    assert {"test/accuracy", "test/f1_weighted"} <= result.metrics.keys()
    judged = evaluate(str(result.model_dir), config.data.test).report.flat("test")
    assert judged.items() <= result.metrics.items()

    parts = MemoryTracker()
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "parts", tracker=parts, should_stop=stop_after(2))
    resumed = finetune(config, tmp_path / "parts", tracker=parts, if_exists="resume")
    assert resumed.metrics["test/accuracy"] == result.metrics["test/accuracy"]
    assert losses(parts)[-2:] == losses(whole)[-2:]
    assert len(losses(whole)) == 4

    padded = MemoryTracker()
    finetune(replace(config, packing="off"), tmp_path / "padded", tracker=padded)
    np.testing.assert_allclose(losses(padded), losses(whole), rtol=1e-4)


def test_certain_probabilities_train_as_their_classes(config, tmp_path):
    classes = [i % 3 for i in range(32)]
    one_hot = np.eye(3)[classes]
    columns = {f"p_{name}": one_hot[:, i] for i, name in enumerate("xyz")}
    pd.DataFrame({"text": TEXTS[:32], "label": ["xyz"[i] for i in classes], **columns}).to_csv(tmp_path / "both.csv")
    both = []
    for prefix in ("p_", None):
        table = replace(config.data, train=str(tmp_path / "both.csv"), label_probabilities=prefix)
        tracker = MemoryTracker()
        finetune(replace(config, data=table), tmp_path / f"run-{prefix}", tracker=tracker)
        both.append(losses(tracker))
    np.testing.assert_allclose(*both, rtol=1e-4)


def test_focal_loss_is_refused(config):
    with pytest.raises(ConfigError, match="--focal-gamma weighs how wrong an answer is"):
        prepare(replace(config, imbalance=Imbalance(focal_gamma=2.0)), 1)


def test_the_trainer_takes_no_probabilities_and_the_loop_in_torch_does(config):
    model = prepare(config, 1).model
    check_job(["jax", "torch"], config, model)
    with pytest.raises(ConfigError, match="the Trainer is run as it comes, without --label-probabilities"):
        check_job(["jax", "trainer"], config, model)


def test_rows_that_are_held_out_of_probabilities_are_told_of(config, caplog):
    prepared = prepare(replace(config, data=replace(config.data, test=None)), 1)
    assert prepared.test.labels.ndim == 1
    assert "judged by their most probable labels; --test names rows whose labels are known" in caplog.text
