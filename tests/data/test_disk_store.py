"""Examples on the disk are the examples in memory, whichever rows they are; a full disk is one line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.data.batching.batch_plan import Position, plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.encode.examples import Examples
from bertjax.data.streaming.disk_store import DiskStore, StoredExamples
from bertjax.errors import DataError


def examples_of(lengths) -> Examples:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.random.default_rng(0).integers(0, 60_000, offsets[-1]).astype(np.int32)
    labels = np.arange(len(lengths), dtype=np.int32)
    return Examples(ids, ids % 2, offsets, labels, 0, weights=(labels / 7).astype(np.float32))


def spilled(examples, rows, folder) -> StoredExamples:
    """In blocks of five rows."""
    store = DiskStore(folder)
    for start in range(0, examples.num_examples, 5):
        tokens = slice(examples.offsets[start], examples.offsets[min(start + 5, examples.num_examples)])
        ids, types = examples.token_ids[tokens].astype(np.uint16), examples.token_type_ids[tokens].astype(np.uint8)
        store.append(token_ids=ids, token_type_ids=types)
    return StoredExamples(store, examples.offsets, rows, examples.labels[rows], 0, examples.weights[rows])


def one_by_one(examples, indices) -> Examples:
    """In any order, and some of them more than once."""
    parts = [examples.take(np.array([i])) if examples.num_examples > 1 else examples for i in indices]
    ids, types, labels, weights = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("token_ids", "token_type_ids", "labels", "weights")
    )
    offsets = np.concatenate([[0], np.cumsum([part.offsets[-1] for part in parts])])
    return Examples(ids, types, offsets, labels, 0, weights=weights)


def assert_same(left, right):
    for name in ("token_ids", "token_type_ids", "offsets", "labels", "weights"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
        assert getattr(left, name).dtype == getattr(right, name).dtype


@given(st.data())
def test_stored_examples_equal_examples_in_memory(tmp_path_factory, data):
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=400))
    examples = examples_of(lengths)
    kept = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=200)))
    taken = np.array(sorted(data.draw(st.sets(st.integers(0, len(kept) - 1), min_size=1))))
    held = spilled(examples, kept, tmp_path_factory.getbasetemp() / "spill")
    assert_same(held.take(taken), one_by_one(examples, kept[taken]))
    np.testing.assert_array_equal(held.lengths, np.array(lengths)[kept])


def test_batches_of_stored_examples_equal_those_in_memory(tmp_path):
    lengths = np.random.default_rng(1).integers(1, 30, 1300)
    examples = examples_of(lengths)
    held = spilled(examples, np.arange(1300), tmp_path)
    plan = plan_training(examples.lengths, 8, 2, 0, 16, 1, packed=True, window_examples=400)
    memory = list(StoredBatches(examples, plan).batches())
    disk = list(StoredBatches(held, plan).batches())
    rest = list(StoredBatches(held, plan).batches(Position(*plan.position(201))))
    assert len(disk) == len(memory) == plan.total_steps
    for left, right in [*zip(memory, disk, strict=True), *zip(memory[201:], rest, strict=True)]:
        np.testing.assert_array_equal(left.example_ids, right.example_ids)
        for one, other in zip(left.batch, right.batch, strict=True):
            np.testing.assert_array_equal(one, other)


def test_disk_store_leaves_no_named_files(tmp_path):
    store = DiskStore(tmp_path / "new")
    store.append(token_ids=np.arange(5))
    assert not list((tmp_path / "new").iterdir())


def test_full_disk_is_one_error_line(tmp_path, monkeypatch):
    """The kernel's own full device."""
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "r+b", buffering=0))  # noqa: SIM115
    store = DiskStore(tmp_path)
    with pytest.raises(DataError, match="cannot be kept in .*: No space left on device; make room there, or name"):
        store.append(token_ids=np.arange(5))
