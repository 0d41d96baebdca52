"""Checkpoints come back to the bit or not at all: damage, a full disk, another model and a newer format included."""

import logging
import resource
import shutil
from contextlib import contextmanager, nullcontext

import chex
import jax
import numpy as np
import pytest

from bertjax.errors import CheckpointError
from bertjax.training.checkpoint import checkpoints as module
from bertjax.training.checkpoint.checkpoints import Checkpoints
from bertjax.training.train_state import TrainState
from tests.support.paths import ODD_NAMES

OWNER = {"task": "classification", "labels": ["bad", "good"]}


def state_of(step, width=3000):
    """A state that differs from those of other steps in every array; some hundred kilobytes."""
    rng = np.random.default_rng(step)
    params = {"layer": {"w": rng.normal(size=(4, width)).astype(np.float32), "b": np.zeros(4, np.float32)}}
    moments = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    return TrainState(params, (moments, np.int32(step)), np.int32(step), jax.random.PRNGKey(step))


TEMPLATE = state_of(0)


def save(folder, *steps, keep=10, best=None):
    with Checkpoints(folder, OWNER, keep) as checkpoints:
        for step in steps:
            checkpoints.save(state_of(step), {"examples": step}, best)


def restore(folder, template=TEMPLATE, owner=OWNER):
    with Checkpoints(folder, owner) as checkpoints:
        return checkpoints.restore(template)


def assert_is_step(restored, step):
    assert jax.tree.structure(restored.state) == jax.tree.structure(state_of(step))
    chex.assert_trees_all_equal(restored.state, state_of(step))
    assert restored.progress == {"examples": step}


def test_the_newest_comes_back_to_the_bit(tmp_path):
    save(tmp_path, 1, 2)
    assert_is_step(restore(tmp_path), 2)


@pytest.mark.parametrize("stays", [False, True])
def test_a_state_is_copied_where_a_step_takes_its_buffers(tmp_path, stays):
    state, written = state_of(1), []

    class Observed(Checkpoints):
        def _write(self, state, progress):
            written.append(state)
            super()._write(state, progress)

    with Observed(tmp_path, OWNER) as checkpoints:
        checkpoints.save(state, {"examples": 1}, stays=stays)
    (saved,) = written
    assert np.shares_memory(saved.params["layer"]["w"], state.params["layer"]["w"]) == stays
    assert_is_step(restore(tmp_path), 1)


@pytest.mark.parametrize("empty", [(), {}, None, ((), None, {})])
def test_an_optimizer_without_state(tmp_path, empty):
    state = state_of(1)._replace(opt_state=empty)
    with Checkpoints(tmp_path, OWNER) as checkpoints:
        checkpoints.save(state, {})
    restored = restore(tmp_path, state).state
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    chex.assert_trees_all_equal(restored, state)


@pytest.mark.parametrize("name", [*ODD_NAMES.values(), "n" * 255, "-x"], ids=[*ODD_NAMES, "a long name", "a flag"])
def test_a_folder_of_any_name(tmp_path, name):
    folder = tmp_path / name / "checkpoints"
    save(folder, 1, 2)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]  # there, and in no place of another name
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_is_step(restore(folder), 2)


@pytest.mark.parametrize("folder", ["run/../a [b]/checkpoints", "link/checkpoints"])
def test_a_folder_by_another_way(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "c*").mkdir()
    (tmp_path / "link").symlink_to("c*")
    save(folder, 1)
    assert_is_step(restore((tmp_path / folder).resolve()), 1)


def test_a_run_is_not_mixed_with_one_that_its_name_matches(tmp_path):
    """Orbax looks for what its processes have written, and `a?b` matches the files of `axb`, which is saving too."""
    save(tmp_path / "axb", 2)
    being_saved = tmp_path / "axb" / "1.orbax-checkpoint-tmp" / "state.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "axb" / "2" / "state", being_saved / "ocdbt.process_9")
    save(tmp_path / "a?b", 1)
    assert_is_step(restore(tmp_path / "a?b"), 1)


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")  # see below
@pytest.mark.parametrize("name", ["bert [final]", "back\\slash"])
def test_what_cannot_be_read_is_not_sealed(tmp_path, monkeypatch, caplog, name):
    """Where Orbax does not find again what it has written, the save has failed, and the checkpoint before it stays."""
    save(tmp_path / name, 1, keep=1)
    monkeypatch.setattr(module, "plain_path", nullcontext)
    save(tmp_path / name, 2, keep=1)
    monkeypatch.undo()
    assert "step 2 could not be saved (" in caplog.text
    assert "the newest checkpoint is that of step 1" in caplog.text
    assert_is_step(restore(tmp_path / name), 1)


def test_the_newest_and_the_best_stay(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 5, keep=2, best=2)
    with Checkpoints(tmp_path, OWNER) as checkpoints:
        assert checkpoints.steps == [2, 4, 5]
        assert_is_step(checkpoints.restore_step(2, TEMPLATE), 2)


def test_a_save_does_not_see_what_training_does_next(tmp_path):
    """The step gives its buffers to the next one while they are being written."""
    state = state_of(3)
    with Checkpoints(tmp_path, OWNER) as checkpoints:
        checkpoints.save(state, {"examples": 3})
        state.params["layer"]["w"][:] = 0
    assert_is_step(restore(tmp_path), 3)


def cut_the_largest_file(folder):
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def flip_a_bit_of_an_array(folder):
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def cut_the_record(folder):
    record = folder / "run" / "metadata"
    record.write_bytes(record.read_bytes()[:40])


def lose_the_arrays(folder):
    shutil.rmtree(folder / "state")


def lose_everything(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    "damage", [cut_the_largest_file, flip_a_bit_of_an_array, cut_the_record, lose_the_arrays, lose_everything]
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, damage):
    save(tmp_path, 1, 2)
    damage(tmp_path / "2")
    assert_is_step(restore(tmp_path), 1)
    if damage is not lose_everything:  # Orbax does not take an empty folder for a checkpoint at all
        assert "the checkpoint of step 2 is damaged" in caplog.text
        assert "going back to the checkpoint of step 1" in caplog.text
    save(tmp_path, 2)  # the run comes by there again
    assert_is_step(restore(tmp_path), 2)


def test_nothing_left_to_fall_back_to(tmp_path):
    save(tmp_path, 1)
    cut_the_record(tmp_path / "1")
    with pytest.raises(CheckpointError, match="no checkpoint of the run can be read"):
        restore(tmp_path)
    assert (tmp_path / "1").is_dir()  # it may still be worth something to its owner
    with pytest.raises(CheckpointError, match="there is no checkpoint to resume from"):
        restore(tmp_path / "none")


def test_another_owner_another_network_and_a_newer_format_are_named(tmp_path, monkeypatch):
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"labels was \['bad', 'good'\], now \['no', 'yes'\]"):
        restore(tmp_path, owner={**OWNER, "labels": ["no", "yes"]})
    with pytest.raises(CheckpointError, match=r"params/layer/w is float32\[4,3000\], expected float32\[4,5\]"):
        restore(tmp_path, state_of(0, width=5))
    with pytest.raises(CheckpointError, match=r"opt_state/0/layer/b is float32\[4\], expected no such array"):
        restore(tmp_path, TEMPLATE._replace(opt_state=()))
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    save(tmp_path, 2)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=f"has format {module.FORMAT + 1}, this bertjax reads up to"):
        restore(tmp_path)


@contextmanager
def full_disk(free_bytes):
    """Files cannot grow beyond a size: the write fails in the middle, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# Where one of several writes fails, TensorStore tells the others' results to an event loop that has gone.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("free_bytes", [0, 20_000])
def test_a_full_disk_costs_one_checkpoint_and_not_the_run(tmp_path, caplog, free_bytes):
    save(tmp_path, 1)
    with Checkpoints(tmp_path, OWNER) as checkpoints:
        with full_disk(free_bytes):
            checkpoints.save(state_of(2), {"examples": 2})
            checkpoints.wait()
        (warning,) = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
        assert "step 2 could not be saved" in warning.getMessage()
        assert "the run goes on, the newest checkpoint is that of step 1" in warning.getMessage()
        assert checkpoints.steps == [1]
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        checkpoints.save(state_of(3), {"examples": 3})
    assert_is_step(restore(tmp_path), 3)


def test_a_disk_without_room_is_not_even_tried(tmp_path, caplog, monkeypatch):
    save(tmp_path, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=50_000))
    save(tmp_path, 2)
    assert "step 2 could not be saved ([Errno 28] No space left on device)" in caplog.text
    assert_is_step(restore(tmp_path), 1)
