"""Many runs in one process: the second one compiles nothing, and none of them leaves anything behind."""

import contextlib
import gc
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import chex
import jax
import pytest

from bertjax.data.table import Table
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer


@pytest.fixture
def compilations():
    """The programs that XLA compiles, or reads from its cache, while a test runs."""
    seen: list[str] = []

    def listen(event: str, seconds: float, **details: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    table = Table(str(reviews), text=("title", "body"), label="stars", test_size=12, validation_size=12)
    return FineTuneConfig(
        str(tiny_model), table, epochs=2, max_length=10, batch_size=16, optimizer=Optimizer(learning_rate=1e-2)
    )


def open_files() -> Counter[str]:
    """How often this process has each file open. Sockets are left out: Ray and the servers of other tests, which live
    on in this process, open some when they like, and a run without MLflow opens none."""
    names: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the folder itself, and what another thread has closed meanwhile
            names[str(descriptor.readlink())] += 1
    return Counter({name: count for name, count in names.items() if not name.startswith(("socket:", "anon_inode:"))})


def files_left_open(before: Counter[str], seconds: float = 10) -> Counter[str]:
    """The files that are open now and were not before; threads of TensorStore may close theirs a little later."""
    end = time.monotonic() + seconds
    while (left := open_files() - before) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def left_behind():
    """Memory maps, threads, containers and all objects of this process."""
    gc.collect()
    objects = len(gc.get_objects()), sys.getallocatedblocks()
    with open("/proc/self/maps", "rb") as maps:
        num_maps = sum(1 for _ in maps)
    return num_maps, threading.active_count(), *objects


def test_runs_after_the_first_compile_nothing_and_leave_nothing(no_programs, config, tmp_path, compilations):
    first = finetune(config, tmp_path / "0", tracker=MemoryTracker())
    assert first.metrics["train/compiles"] > 0
    assert compilations
    compilations.clear()
    second = finetune(config, tmp_path / "1", tracker=MemoryTracker())
    assert not compilations
    assert second.metrics["train/compiles"] == 0
    chex.assert_trees_all_equal(*(from_pretrained(run.model_dir)[1] for run in (first, second)))
    files, before = open_files(), left_behind()
    for number in range(2, 8):
        finetune(config, tmp_path / str(number), tracker=MemoryTracker())
    maps, threads, containers, blocks = (after - earlier for after, earlier in zip(left_behind(), before, strict=True))
    assert maps < 40  # a run that compiles leaves ten times as many
    assert threads <= 0
    assert not files_left_open(files)
    assert containers < 6 * 20  # without the mends of their causes a run left 2,400 containers
    assert blocks < 6 * 2_500  # and 20,000 objects; the rest is TensorStore's, 4 for each array that is written
