"""A run that is refused, or killed, before it has begun leaves the folder as it was: the old run, or nothing."""

import json
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from bertjax.baselines.compare.comparison import compare
from bertjax.data.table import Table
from bertjax.errors import ConfigError, DiskError
from bertjax.sweeps import driver
from bertjax.sweeps.search_space import LogUniform
from bertjax.sweeps.sweep_config import Sweep
from bertjax.tracking.tracker import Dataset, MemoryTracker
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.run import finetuning
from bertjax.training.run.beginning import Beginning, held_folder
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepared_run import PreparedRun
from bertjax.training.run.run_folder import IfExists, belongs_to_run
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.processes import run_python, user_environment

OLD = {
    "config.json": "{}", "metrics.json": "{}", "environment.json": '{"starts": []}', "tracking.jsonl": "",
    "checkpoints/8/state": "old", "model/model.safetensors": "old", "seed-0/config.json": "{}",
    "notes.txt": "mine", "seed-words.txt": "mine", "figures/loss.png": "mine",
}  # fmt: skip


class Refusing(MemoryTracker):
    """A store that refuses a run at one of the calls that begin it."""

    def __init__(self, call: str):
        super().__init__()
        self._call = call

    def _refuse_at(self, call: str) -> None:
        if call == self._call:
            raise ConfigError("MLflow refuses")

    def connect(self) -> None:
        self._refuse_at("connect")

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        (folder / "tracking.jsonl").write_text('{"identity": {"run_key": "new"}}\n')
        self._refuse_at("start")
        return super().start(name, params, folder, tags)

    def log_dataset(self, dataset: Dataset) -> None:
        self._refuse_at("log_dataset")


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    table = Table(str(reviews), text=("title", "body"), label="stars", validation_size=0.25)
    return FineTuneConfig(str(tiny_model), table, epochs=1, max_length=48, batch_size=8)


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    """No test comes as far as a step."""
    monkeypatch.setattr(finetuning, "CompiledTrainStep", Mock())


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def run_single(config: FineTuneConfig, out: Path, if_exists: IfExists, call: str) -> None:
    finetune(config, out, if_exists=if_exists, tracker=Refusing(call))


def run_seeds(config: FineTuneConfig, out: Path, if_exists: IfExists, call: str) -> None:
    """The run around the seeds begins, and the first seed is refused."""

    def tracker(parent: str | None) -> MemoryTracker:
        return MemoryTracker() if parent is None else Refusing(call)

    finetune_seeds(config, (0, 1), out, if_exists=if_exists, new_tracker=tracker)


def run_comparison(config: FineTuneConfig, out: Path, if_exists: IfExists, call: str) -> None:
    compare(config, ("jax",), (0,), out, if_exists=if_exists, new_tracker=lambda parent: Refusing(call))


CASES = [
    *((run_single, call) for call in ("connect", "start", "log_dataset")),
    *((run_seeds, call) for call in ("connect", "start", "log_dataset")),
    *((run_comparison, call) for call in ("connect", "start")),
]


@pytest.mark.parametrize(("run", "call"), CASES, ids=[f"{run.__name__} {call}" for run, call in CASES])
def test_a_run_that_is_refused_leaves_what_was_there(
    config, tmp_path, run: Callable[[FineTuneConfig, Path, IfExists, str], None], call: str
):
    write(tmp_path / "old", OLD)
    with pytest.raises(ConfigError, match="MLflow refuses"):
        run(config, tmp_path / "old", "overwrite", call)
    assert files_in(tmp_path / "old") == OLD
    with pytest.raises(ConfigError, match="MLflow refuses"):
        run(config, tmp_path / "new" / "run", "error", call)
    assert not (tmp_path / "new").exists()


def test_a_sweep_that_is_refused_leaves_nothing(config, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "tracker_of", lambda *_: Refusing("start"))
    monkeypatch.setattr(driver, "_ray_session", lambda *_: held_folder(tmp_path / "s"))
    monkeypatch.setattr(driver, "check_resources", lambda _: None)
    sweep = Sweep(config, {"optimizer.learning_rate": LogUniform(1e-4, 1e-1)}, samples=2)
    with pytest.raises(ConfigError, match="MLflow refuses"):
        driver.run_sweep(sweep, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_the_run_does_not_report_is_told_before_the_old_run_goes(config, tmp_path):
    write(tmp_path / "old", OLD)
    misspelt = replace(config, evaluation=replace(config.evaluation, best_metric="validation/acuracy"))
    with pytest.raises(ConfigError, match="does not report 'validation/acuracy'"):
        finetune_seeds(misspelt, (0, 1), tmp_path / "old", if_exists="overwrite", new_tracker=lambda _: MemoryTracker())
    assert files_in(tmp_path / "old") == OLD


def test_a_full_disk_at_the_beginning_loses_nothing(config, tmp_path, monkeypatch):
    def full(run: PreparedRun) -> None:
        raise DiskError("no space left")

    monkeypatch.setattr(PreparedRun, "open_checkpoints", full)
    write(tmp_path / "old", OLD)
    tracker = MemoryTracker()
    with pytest.raises(DiskError, match="no space left"):
        finetune(config, tmp_path / "old", if_exists="overwrite", tracker=tracker)
    assert files_in(tmp_path / "old") == OLD
    assert tracker.status == "FAILED"


def test_a_refused_resumption_leaves_the_records_of_the_run_as_they_were(tmp_path):
    write(tmp_path, OLD)
    with pytest.raises(ConfigError), Beginning(tmp_path, resumes=True) as beginning:  # noqa: PT012 (the block is the subject)
        beginning.open(lambda: write(tmp_path, {"config.json": "changed"}))
        raise ConfigError("MLflow refuses")
    assert files_in(tmp_path) == OLD


def test_what_has_begun_stays_whatever_comes(tmp_path):
    """And files of the user stay, too."""
    write(tmp_path, OLD)
    with pytest.raises(ConfigError), Beginning(tmp_path, resumes=False) as beginning:  # noqa: PT012 (the block is the subject)
        beginning.open(lambda: write(tmp_path, {"config.json": "new"}))
        beginning.commit()
        raise ConfigError("after the first step")
    foreign = {name: text for name, text in OLD.items() if not belongs_to_run(name.split("/")[0])}
    assert files_in(tmp_path) == {**foreign, "config.json": "new"}
    assert set(foreign) == {"notes.txt", "seed-words.txt", "figures/loss.png"}


KILLED_AT_THE_START = """
import os, signal, sys
from pathlib import Path
from bertjax import FineTuneConfig, Table, finetune
from bertjax.tracking.tracker import MemoryTracker

class Killed(MemoryTracker):
    def start(self, name, params, folder, tags=None):
        os.kill(os.getpid(), signal.SIGKILL)

table = Table(sys.argv[2], text=("title", "body"), label="stars", validation_size=0.25)
config = FineTuneConfig(sys.argv[1], table, epochs=1, max_length=48, batch_size=8)
finetune(config, sys.argv[3], if_exists="overwrite", tracker=Killed())
"""


def test_the_start_after_one_that_was_killed_finds_the_old_run(config, tmp_path, caplog):
    """The run that was to replace it had its settings written, and MLflow was asked for it."""
    write(tmp_path / "old", OLD)
    done = run_python("-c", KILLED_AT_THE_START, config.model, config.data.train, str(tmp_path / "old"),
                      env=user_environment())  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads((tmp_path / "old" / "config.json").read_text())["epochs"] == 1
    with caplog.at_level(logging.WARNING), held_folder(tmp_path / "old"):
        pass
    assert files_in(tmp_path / "old") == OLD
    assert "was killed before it had begun; the run is back in its place" in caplog.text
