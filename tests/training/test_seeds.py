"""Several seeds of one config: each is the run it would be alone, none is run twice, and they are summed up."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from bertjax.data.table import Table
from bertjax.errors import ConfigError, Diverged, Interrupted, RunFolderError
from bertjax.metrics.aggregate import Aggregate, aggregates
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.settings import flatten
from bertjax.storage.atomic_write import write_json
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import EarlyStopping, Optimizer
from tests.support.tracking import Trackers, stop_after


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(reviews), text=("title", "body"), label="stars", validation_size=0.2),
        epochs=2,
        max_length=48,
        batch_size=8,
        optimizer=Optimizer(learning_rate=1e-3),
    )


def test_seeds_are_the_runs_they_would_be_alone_and_a_second_start_runs_what_is_missing(config, tmp_path):
    alone = finetune(replace(config, seed=1), tmp_path / "alone", tracker=MemoryTracker())
    out, before = tmp_path / "out", Trackers()
    with pytest.raises(Interrupted, match="stopped after step 4 of 10"):
        finetune_seeds(config, (3, 1), out, new_tracker=before, should_stop=stop_after(14))
    assert [(parent, tracker.status) for parent, tracker in before] == [
        (None, "KILLED"), ("out", "FINISHED"), ("out", "KILLED"),
    ]  # fmt: skip
    finished = (out / "seed-3" / "metrics.json").stat().st_mtime_ns
    assert not (out / "metrics.json").exists()

    after = Trackers()
    result = finetune_seeds(config, (3, 1, 0), out, if_exists="resume", new_tracker=after)
    assert (out / "seed-3" / "metrics.json").stat().st_mtime_ns == finished
    assert [parent for parent, _ in after] == [None, "out", "out"]
    assert [step for step, row in after[1][1].metrics if "train/grad_norm" in row] == list(range(5, 11))
    assert after[0][1].params["seeds"] == [3, 1, 0]
    assert list(result.runs) == [3, 1, 0]

    left, right = (from_pretrained(folder)[1] for folder in (alone.model_dir, result.model_dir(1)))
    assert jax.tree.all(jax.tree.map(np.array_equal, left, right))
    assert json.loads((out / "metrics.json").read_text()) == result.metrics
    for name in ("test/f1_macro", "validation/accuracy"):
        scores = [run[name] for run in result.runs.values()]
        assert result.metrics[f"{name}_mean"] == pytest.approx(np.mean(scores))
        assert result.metrics[f"{name}_sd"] == pytest.approx(np.std(scores, ddof=1))
    assert result.metrics["seeds"] == 3
    losses = {json.loads((out / f"seed-{seed}" / "metrics.json").read_text())["train/loss"] for seed in (3, 1, 0)}
    assert len(losses) == 3

    with pytest.raises(RunFolderError, match="already holds a run"):
        finetune_seeds(config, (0,), out, new_tracker=Trackers())
    with pytest.raises(RunFolderError, match="epochs was 2, now 3"):
        finetune_seeds(replace(config, epochs=3), (0,), out, if_exists="resume", new_tracker=Trackers())
    with pytest.raises(RunFolderError, match=r"seeds was \[3, 1, 0\], now None"):
        finetune(config, out, if_exists="resume", tracker=MemoryTracker())
    with pytest.raises(RunFolderError, match="alone holds the run of a single seed"):
        finetune_seeds(config, (0, 1), alone.folder, if_exists="resume", new_tracker=Trackers())
    finetune_seeds(replace(config, epochs=1), (0,), out, if_exists="overwrite", new_tracker=Trackers())
    assert [path.name for path in out.glob("seed-*")] == ["seed-0"]


def test_a_seed_that_diverges_leaves_the_others(config, tmp_path, monkeypatch):
    """Nothing diverges for one seed on demand, so the end of its run is made up; all of them diverge for real."""
    from bertjax.training.multi import multi_seed as module

    train_and_evaluate = module.train_and_evaluate

    def one_diverges(run, context):
        if run.config.seed == 0:
            write_json(run.folder / "config.json", flatten(run.config))
            raise Diverged("too high a rate")
        return train_and_evaluate(run, context)

    monkeypatch.setattr(module, "train_and_evaluate", one_diverges)
    trackers = Trackers()
    result = finetune_seeds(replace(config, epochs=1), (0, 1), tmp_path / "out", new_tracker=trackers)
    assert result.failures == {0: "too high a rate"}
    assert list(result.runs) == [1]
    assert result.metrics["seeds"] == 1
    assert trackers[0][1].status == "FAILED"
    monkeypatch.undo()
    hopeless = replace(
        config, optimizer=Optimizer(learning_rate=1e38), early_stopping=EarlyStopping(max_skipped_steps=1)
    )
    with pytest.raises(Diverged, match="every seed diverged; the first: 1 steps in a row were skipped"):
        finetune_seeds(hopeless, (0,), tmp_path / "other", new_tracker=Trackers())

    def never(run, context):
        raise AssertionError("the same seed diverges in the same way")

    monkeypatch.setattr(module, "train_and_evaluate", never)
    again = finetune_seeds(
        replace(config, epochs=1), (0, 1), tmp_path / "out", if_exists="resume", new_tracker=trackers
    )
    assert again.failures == result.failures
    assert again.metrics == result.metrics
    with pytest.raises(Diverged, match="every seed diverged; the first: 1 steps in a row were skipped"):
        finetune_seeds(hopeless, (0,), tmp_path / "other", if_exists="resume", new_tracker=Trackers())
    with pytest.raises(AssertionError, match="same way"):  # other settings may do better
        finetune_seeds(config, (0,), tmp_path / "other", if_exists="resume_changed", new_tracker=Trackers())


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ((), "seeds must be one or more"),
        ((1, 0, 1), r"seeds must be distinct; given twice, got \[1\]"),
        ((0, -1), "seed must not be negative, got -1"),
    ],
)
def test_seeds_that_are_none(config, tmp_path, seeds, message):
    with pytest.raises(ConfigError, match=message):
        finetune_seeds(config, seeds, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_that_only_some_runs_have_are_left_out():
    found = aggregates([{"a": 1.0, "b": 2.0}, {"a": 3.0}])
    assert found == {"a": Aggregate(2.0, pytest.approx(2**0.5))}
    assert aggregates([]) == {}
