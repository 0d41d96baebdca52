"""A run whose checkpoints are gone: a finished one is not trained again over its own results; one that is not begins
again, and says what it had."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from bertjax.data.table import Table
from bertjax.errors import CheckpointError, RunFolderError
from bertjax.settings import flatten
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.multi.ray_workers import finetune_on_workers
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepared_run import prepare_run
from bertjax.training.run.run_folder import IfExists
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Workers
from tests.support.tracking import Trackers


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    table = Table(str(reviews), text=("title", "body"), label="stars", validation_size=0.25)
    return FineTuneConfig(str(tiny_model), table, epochs=1, max_length=48, batch_size=8)


@pytest.fixture
def lost(config, tmp_path) -> Path:
    """A finished run without checkpoints."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(flatten(config.resolved())))
    (folder / "metrics.json").write_text('{"train/seconds": 1.0, "test/accuracy": 0.5}')
    return folder


def resume_single(config: FineTuneConfig, folder: Path, if_exists: IfExists) -> None:
    finetune(config, folder, if_exists=if_exists, tracker=MemoryTracker())


def resume_workers(config: FineTuneConfig, folder: Path, if_exists: IfExists) -> None:
    finetune_on_workers(config, folder, Workers(num_workers=1), if_exists=if_exists)


@pytest.mark.parametrize("if_exists", ["resume", "resume_changed"])
@pytest.mark.parametrize("resume", [resume_single, resume_workers])
@pytest.mark.parametrize("left", ["nothing", "a folder", "scratch of a save"])
def test_a_finished_run_is_not_trained_again(
    config, lost, in_folder, resume: Callable[[FineTuneConfig, Path, IfExists], None], if_exists: IfExists, left: str
):
    if left != "nothing":
        (lost / "checkpoints").mkdir()
    if left == "scratch of a save":
        (lost / "checkpoints" / "6.orbax-checkpoint-tmp-0").mkdir()
    before = {path: path.read_bytes() for path in lost.iterdir() if path.is_file()}
    with pytest.raises(RunFolderError, match="holds a finished run without a checkpoint to go on from; replace"):
        resume(config, lost, if_exists)
    assert {path: path.read_bytes() for path in lost.iterdir() if path.is_file()} == before


def test_a_finished_run_whose_checkpoint_is_damaged_is_told_so(config, lost):
    (lost / "checkpoints" / "6" / "run").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="no checkpoint of the run can be read; start the run again with --over"):
        resume_single(config, lost, "resume")


def test_a_finished_seed_needs_no_checkpoint(config, lost, tmp_path):
    """Its result counts, and it is not trained again."""
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    settings = {path: value for path, value in flatten(config.resolved()).items() if path != "seed"}
    (seeds / "config.json").write_text(json.dumps(settings | {"seeds": [0]}))
    lost.rename(seeds / "seed-0")
    result = finetune_seeds(config, (0,), seeds, if_exists="resume", new_tracker=Trackers())
    assert result.metrics["test/accuracy_mean"] == 0.5


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("", "run has no checkpoint yet: the run starts again from its first step"),
        (
            '{"metrics": {"train/loss": 0.5}, "step": 37, "time_ms": 1}\n',
            "run has no checkpoint, though it has trained 37 steps: the run starts again from its first step",
        ),
    ],
)
def test_an_unfinished_run_begins_again_and_says_what_it_had(config, lost, caplog, log, message):
    (lost / "metrics.json").unlink()
    (lost / "tracking.jsonl").write_text(log)
    with caplog.at_level(logging.INFO):
        run = prepare_run(config, lost, "resume")
    assert message in caplog.text
    assert int(run.state.step) == 0
