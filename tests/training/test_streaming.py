"""A run whose training rows stream is, to the bit, the run whose rows are in memory."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.model_folder import from_pretrained
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.config import FineTuneConfig
from bertjax.training.finetune import finetune
from bertjax.training.options import Imbalance

pytestmark = pytest.mark.ray


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    table = Table(str(reviews), test=str(reviews), text=("title", "body"), label="stars", leaks="report")
    weights = Imbalance(class_weights=("good=2",))
    return FineTuneConfig(str(tiny_model), table, max_length=48, batch_size=8, epochs=2, imbalance=weights)


def test_the_same_bits(config, tmp_path, ray_session):
    streamed = replace(config, data=replace(config.data, reader="ray"))
    memory, stream = (
        finetune(which, tmp_path / which.data.reader, tracker=MemoryTracker()) for which in (config, streamed)
    )
    left, right = (from_pretrained(result.model_dir)[1] for result in (memory, stream))
    assert jax.tree.all(jax.tree.map(np.array_equal, left, right))
    same = [name for name in memory.metrics if name.startswith(("test/", "data/"))]
    assert {name: memory.metrics[name] for name in same} == {name: stream.metrics[name] for name in same}
    assert memory.metrics["train/loss"] == stream.metrics["train/loss"]


def test_rows_that_are_not_in_memory_cannot_be_repeated(config, tmp_path):
    streamed = replace(config, data=replace(config.data, reader="ray"), imbalance=Imbalance(oversample=True))
    with pytest.raises(ConfigError, match="--oversample repeats rows in memory, where --reader ray has none"):
        finetune(streamed, tmp_path / "run", tracker=MemoryTracker())
    assert not (tmp_path / "run").exists()
