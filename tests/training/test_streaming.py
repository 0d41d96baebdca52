"""A run whose training rows stream is, to the bit, the run whose rows are in memory."""

from dataclasses import replace
from pathlib import Path

import chex
import numpy as np
import pytest

from bertjax.data.table import Table
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepare import prepare
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Imbalance

pytestmark = pytest.mark.ray


@pytest.fixture
def config(tiny_model, reviews, tmp_path) -> FineTuneConfig:
    """More rows of one class than of the other, some of them held out."""
    rows = reviews.read_text().splitlines()
    (tmp_path / "t.csv").write_text("\n".join([*rows[:31], *(row for row in rows[31:] if "good" in row)]))
    table = Table(str(tmp_path / "t.csv"), text=("title", "body"), label="stars", test_size=9, validation_size=0.2)
    return FineTuneConfig(str(tiny_model), table, max_length=48, batch_size=8, epochs=2)


def test_the_same_bits(config, tmp_path, ray_session):
    """With rows that are repeated."""
    config = replace(config, imbalance=Imbalance(oversample=True))
    streamed = replace(config, data=replace(config.data, reader="ray"))
    memory, stream = (
        finetune(which, tmp_path / which.data.reader, tracker=MemoryTracker()) for which in (config, streamed)
    )
    left, right = (from_pretrained(result.model_dir)[1] for result in (memory, stream))
    chex.assert_trees_all_equal(left, right)
    same = [
        name
        for name in memory.metrics
        if name.startswith(("test/", "validation/", "data/")) and not name.startswith("test/slice/")  # they need texts
    ]
    assert [finding.section.anchor for finding in stream.findings] == ["intervals", "calibration"]
    assert {name: memory.metrics[name] for name in same} == {name: stream.metrics[name] for name in same}
    assert memory.metrics["train/loss"] == stream.metrics["train/loss"]


def test_the_same_weights(config, ray_session):
    config = replace(config, imbalance=Imbalance(class_weights=("good=2",)))
    streamed = replace(config, data=replace(config.data, reader="ray"))
    memory, stream = (prepare(which, 1) for which in (config, streamed))
    assert [(dataset.side, dataset.num_rows) for dataset in stream.datasets] == [
        (dataset.side, dataset.num_rows) for dataset in memory.datasets
    ]
    seen: set[float] = set()
    for left, right in zip(memory.train.batches(), stream.train.batches(), strict=True):
        seen |= set(left.batch.example_weights.ravel().tolist())
        for one, other in zip(left.batch, right.batch, strict=True):
            np.testing.assert_array_equal(one, other)
    assert {1.0, 2.0} <= seen


def test_the_wrong_vocabulary_is_told_alike(config, caplog, ray_session):
    table, told = config.data.train, []
    for word in ("good", "great", "bad", "dull", "book", "film"):
        Path(table).write_text(Path(table).read_text().replace(word, f"{word}ово"))
    for reader in ("pandas", "ray"):
        caplog.clear()
        prepare(replace(config, data=replace(config.data, reader=reader)), 1)
        told.append([message for message in caplog.messages if "[UNK]" in message])
    assert told[0] == told[1]
    assert [message.split(": ")[0] for message in told[0]] == [
        f"{table} ({side} rows)" for side in ("training", "validation", "test")
    ]
