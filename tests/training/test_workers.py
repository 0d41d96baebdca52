"""Many machines: two workers are two devices, a worker that dies costs time only, and a mistake is told once."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import chex
import jax
import numpy as np
import psutil
import pytest
from mlflow import MlflowClient

from bertjax.data.table import Table
from bertjax.errors import ConfigError, RunFolderError, UserError, WorkerError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.multi.ray_workers import check_room, finetune_on_workers
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer, Workers
from tests.support.tracking import logged_losses

TWO = Workers(num_workers=2)
EPOCH = 5  # steps
STEPS = 8 * EPOCH


pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def config(tiny_model, reviews) -> FineTuneConfig:
    return FineTuneConfig(
        model=str(tiny_model),
        # The program that validates is compiled between steps.
        data=Table(str(reviews), text=("title", "body"), label="stars", validation_size=0.2),
        epochs=8,
        max_length=48,
        batch_size=8,
        optimizer=Optimizer(learning_rate=1e-3),
    )


@pytest.fixture(scope="module")
def one_device_a_worker(ray_session, database, tmp_path_factory):
    """Workers with a single device, whatever this process has, that record in a store of their own."""
    store = shutil.copy(database, tmp_path_factory.mktemp("mlflow") / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
        yield MlflowClient


@pytest.fixture(scope="module")
def undisturbed(config, one_device_a_worker, tmp_path_factory) -> Path:
    workers = replace(TWO, max_failures=0)  # one that failed and started again would give the same numbers
    return finetune_on_workers(config, tmp_path_factory.mktemp("runs") / "undisturbed", workers).folder


def params_of(folder: Path):
    return from_pretrained(folder / "model")[1]


def test_two_workers_are_two_devices(config, undisturbed, tmp_path):
    """With dropout: a device draws the same masks, whoever's it is."""
    tracker = MemoryTracker()
    assert jax.device_count() == 2
    alone = finetune(config, tmp_path / "alone", tracker=tracker)
    expected = [(step, values["train/loss"]) for step, values in tracker.metrics if "train/grad_norm" in values]
    found = logged_losses(undisturbed)
    assert [step for step, _ in found] == [step for step, _ in expected] == list(range(1, STEPS + 1))
    # float32 sums of two devices, by XLA in one process and by gloo between two
    np.testing.assert_allclose([loss for _, loss in found], [loss for _, loss in expected], atol=1e-5)
    metrics = json.loads((undisturbed / "metrics.json").read_text())
    assert metrics["test/accuracy"] == alone.metrics["test/accuracy"]
    assert metrics["train/real_token_share"] == alone.metrics["train/real_token_share"]
    assert not [path for path in undisturbed.parent.iterdir() if path.name.startswith(".")]


def kill_a_worker(folder: Path, killed: list[bool]) -> None:
    """Ends one of the workers once the run has saved its first epoch."""
    until = time.monotonic() + 120
    while not any(path.name.isdecimal() and int(path.name) > 0 for path in (folder / "checkpoints").glob("*")):
        if time.monotonic() > until:
            return  # the run has ended before
        time.sleep(0.01)
    ours = psutil.Process().children(recursive=True)  # Ray's of another test process are left alone
    victim = max(
        (process for process in ours if "RayTrainWorker" in " ".join([process.name(), *process.cmdline()])),
        key=lambda process: process.pid,
    )
    victim.kill()
    killed.append(not (folder / "metrics.json").exists())


@contextmanager
def a_worker_dies(folder: Path) -> Iterator[None]:
    """What runs inside loses a worker before it is done."""
    killed: list[bool] = []
    killer = threading.Thread(target=kill_a_worker, args=(folder, killed), daemon=True)
    killer.start()
    yield
    killer.join()
    assert killed == [True]


def test_a_run_survives_the_death_of_a_worker(config, undisturbed, tmp_path):
    with a_worker_dies(tmp_path / "run"):
        result = finetune_on_workers(config, tmp_path / "run", replace(TWO, max_failures=1))
    assert logged_losses(result.folder) == logged_losses(undisturbed)
    chex.assert_trees_all_equal(params_of(result.folder), params_of(undisturbed))
    client = MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("bertjax").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["run", "undisturbed"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_one_death_too_many_and_what_goes_on_from_there(config, one_device_a_worker, tmp_path):
    """The run says how it goes on; it then does so with other settings, if it is told to, and says how to repeat it."""
    folder = tmp_path / "run"
    with a_worker_dies(folder), pytest.raises(WorkerError, match=f"died more than 0 times .*--resume --out {folder}"):
        finetune_on_workers(config, folder, replace(TWO, max_failures=0))
    assert not (folder / "metrics.json").exists()
    before = logged_losses(folder)
    changed = replace(config, optimizer=Optimizer(learning_rate=5e-4))
    with pytest.raises(RunFolderError, match=r"data: optimizer.learning_rate was 0.001, now 0.0005; --allow-changed"):
        finetune_on_workers(changed, folder, TWO, if_exists="resume")
    command = "bertjax finetune --learning-rate 5e-4"
    finetune_on_workers(changed, folder, TWO, if_exists="resume_changed", command=command)
    after = logged_losses(folder)
    assert after[:EPOCH] == before[:EPOCH]  # the epoch that was saved
    assert [step for step, _ in after] == list(range(1, STEPS + 1))
    starts = json.loads((folder / "environment.json").read_text())["starts"]
    assert starts[0]["command"].startswith("XLA_FLAGS=")
    assert "finetune_on_workers(FineTuneConfig(" in starts[0]["command"]
    assert starts[-1]["command"].endswith(f" {command}")


def test_a_mistake_in_the_data_is_told_as_one(config, one_device_a_worker, tmp_path):
    """Workers that start again, as they do after any failure, end at once."""
    wrong = replace(config, data=replace(config.data, label="starz"))
    with pytest.raises(UserError, match="has no column 'starz'"):
        finetune_on_workers(wrong, tmp_path / "run", TWO)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wanted", "there_are"),
    [
        (Workers(num_workers=3), "takes as many CPUs, and this machine has 2"),
        (Workers(num_workers=1, use_gpu=True), "takes as many GPUs, and this machine has 0"),
        (Workers(num_workers=4, topology="4x4", accelerator="TPU-V6E"), "takes as many TPUs, and this machine has 0"),
    ],
)
def test_more_workers_than_there_is_room_for(wanted, there_are):
    with pytest.raises(ConfigError, match=there_are):
        check_room(wanted, {"CPU": 2.0})
