"""Batches: every example exactly once an epoch, batch_size examples an update, nothing lost in the layout."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.data.batching.batch_plan import Position, plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.batching.example_order import Order, batch_indices
from bertjax.data.encode.examples import Examples
from bertjax.prediction.batcher import one_shape_batches

cases = st.tuples(
    st.lists(st.integers(3, 40), min_size=1, max_size=80),
    st.integers(1, 20),  # batch size
    st.integers(1, 3),  # epochs
    st.integers(0, 5),  # seed
    st.sampled_from([1, 2, 4]),  # devices
    st.booleans(),  # packed
    st.sampled_from([1, 9, 30, 2**16]),  # examples a window
)


def make_examples(lengths) -> Examples:
    """Example i consists of the tokens i, so that a token names the example it came from."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    return Examples(ids, ids % 2, offsets, np.arange(len(lengths), dtype=np.int32), truncated=0)


def plan(lengths, batch_size, epochs, seed, devices, packed, window=2**16):
    return plan_training(np.asarray(lengths), batch_size, epochs, seed, 64, devices, packed, window_examples=window)


@given(cases)
def test_every_example_once_an_epoch_in_few_shapes(case):
    lengths, batch_size, epochs, _, devices, _, _ = case
    examples, the_plan = make_examples(lengths), plan(*case)
    batches = list(StoredBatches(examples, the_plan).batches())
    per_epoch = the_plan.steps_per_epoch
    assert len(batches) == the_plan.total_steps == epochs * -(-len(lengths) // batch_size)
    assert len(the_plan.layouts) <= 4
    for epoch in range(epochs):
        of_epoch = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        seen = np.concatenate([batch.example_ids[batch.example_ids >= 0] for batch in of_epoch])
        assert sorted(seen) == list(range(len(lengths)))
        assert [batch.num_examples for batch in of_epoch[:-1]] == [batch_size] * (per_epoch - 1)
    for packed_batch in batches:
        assert packed_batch.batch.token_ids.shape in {layout[:2] for layout in the_plan.layouts}
        assert packed_batch.batch.token_ids.shape[0] % devices == 0


@given(cases)
def test_collate_fills_batches_from_the_examples(case):
    lengths = case[0]
    examples = make_examples(lengths)
    for batch, ids, num_examples, num_tokens in StoredBatches(examples, plan(*case)).batches():
        np.testing.assert_array_equal(batch.example_weights > 0, ids >= 0)
        assert num_tokens == sum(lengths[i] for i in ids[ids >= 0])
        assert num_examples == (ids >= 0).sum()
        for row, slot in zip(*np.nonzero(ids >= 0), strict=True):
            example = ids[row, slot]
            inside = batch.segment_ids[row] == slot + 1
            assert batch.token_ids[row, inside].tolist() == [example] * lengths[example]
            assert batch.position_ids[row, inside].tolist() == list(range(lengths[example]))
            assert np.flatnonzero(inside)[0] == batch.example_starts[row, slot]
            assert batch.labels[row, slot] == examples.labels[example]


@pytest.mark.parametrize("longest", [16, 37, 98])
def test_rows_of_an_accelerator_have_lengths_that_suit_it(longest):
    lengths = np.random.default_rng(0).integers(3, longest + 1, 400)
    on_cpu, on_gpu, on_tpu = (
        plan_training(lengths, 32, 2, 0, 64, 1, packed=True, platform=platform) for platform in ("cpu", "gpu", "tpu")
    )
    assert on_gpu == on_tpu
    assert {layout.row_length % 16 for layout in on_gpu.layouts} == {0}
    for made in (on_cpu, on_gpu):
        batches = list(StoredBatches(make_examples(lengths), made).batches())
        assert sum(batch.num_tokens for batch in batches) == 2 * lengths.sum()
        computed = sum(batch.batch.token_ids.size for batch in batches)
        assert 2 * lengths.sum() > 0.95 * computed


def test_rows_of_long_texts_are_short_on_a_cpu_and_full_on_other_devices():
    """Attention on a CPU computes the pairs of different examples too."""
    lengths = np.minimum(np.random.default_rng(0).gamma(4, 110, 600).astype(int) + 2, 512)

    def row_length(platform):
        plan = plan_training(lengths, 32, 1, 0, 384, 1, packed=True, platform=platform)
        return {layout.row_length for layout in plan.layouts}

    assert row_length("cpu") == {512}
    assert min(row_length("gpu")) > 700


@given(cases)
def test_packing_does_not_change_which_examples_share_an_update(case):
    lengths, batch_size, epochs, seed, devices, _, window = case
    examples = make_examples(lengths)

    def composition(packed):
        batches = StoredBatches(examples, plan(lengths, batch_size, epochs, seed, devices, packed, window)).batches()
        return [sorted(batch.example_ids[batch.example_ids >= 0]) for batch in batches]

    assert composition(True) == composition(False)


@given(cases, st.data())
def test_batches_resume_at_any_step(case, data):
    examples, the_plan = make_examples(case[0]), plan(*case)
    source = StoredBatches(examples, the_plan)
    whole = list(source.batches())
    first = data.draw(st.integers(0, len(whole)))
    saved = json.dumps(the_plan.position(first)._asdict())
    restored = Position(**json.loads(saved))
    assert the_plan.step(restored) == first
    rest = list(source.batches(restored))
    assert len(rest) == len(whole) - first
    for left, right in zip(whole[first:], rest, strict=True):
        np.testing.assert_array_equal(left.example_ids, right.example_ids)


@pytest.mark.parametrize("rest", [0, 100])
def test_a_window_is_drawn_from_all_over_a_large_set(rest):
    """A file that is sorted by its labels still gives mixed batches; only the last window is not full."""
    lengths = np.random.default_rng(0).integers(3, 40, 2**17 + rest)
    order = Order(lengths, batch_size=48, seed=0, window_examples=2**15)
    windows = list(order.windows(epoch=0))
    assert sorted(np.concatenate([window.examples for window in windows])) == list(range(len(lengths)))
    assert [len(window.examples) for window in windows[:-1]] == [32_736] * (len(windows) - 1)
    for window in windows[:-1]:
        assert np.histogram(window.examples, bins=4, range=(0, len(lengths)))[0].min() > 32_736 / 8
        assert (np.diff(window.examples) > 0).all()
        assert sorted(np.concatenate(window.batches)) == list(range(32_736))
    assert not np.array_equal(windows[0].examples, next(order.windows(epoch=1)).examples)
    assert not np.array_equal(windows[0].examples, next(order._replace(seed=1).windows(epoch=0)).examples)


def test_windows_of_one_shape_differ_in_their_shuffle():
    order = Order(np.full(2048, 5), batch_size=8, seed=0, window_examples=1024)
    first, second = order.windows(epoch=0)
    assert not np.array_equal(np.concatenate(first.batches), np.concatenate(second.batches))


def test_position_of_another_seed_is_an_error():
    source = StoredBatches(make_examples([5, 5, 5]), plan([5, 5, 5], 2, 2, 0, 1, True))
    with pytest.raises(ValueError, match="another order of examples than that of seed 0"):
        next(source.batches(Position(0, 1, seed=1)))


@given(st.lists(st.integers(3, 40), min_size=1, max_size=80), st.sampled_from([1, 2, 4]))
def test_evaluation_batches_have_every_example_once(lengths, devices):
    batches = list(one_shape_batches(make_examples(lengths), devices))
    seen = np.concatenate([batch.example_ids[batch.example_ids >= 0] for batch in batches])
    assert sorted(seen) == list(range(len(lengths)))
    assert len({batch.batch.token_ids.shape for batch in batches}) == 1


def test_order_follows_seed_and_epoch():
    lengths = np.arange(3, 103)
    first = np.concatenate(batch_indices(lengths, 8, seed=0, epoch=0))
    assert not np.array_equal(first, np.concatenate(batch_indices(lengths, 8, seed=0, epoch=1)))
    assert not np.array_equal(first, np.concatenate(batch_indices(lengths, 8, seed=1, epoch=0)))
    np.testing.assert_array_equal(first, np.concatenate(batch_indices(lengths, 8, seed=0, epoch=0)))


def test_an_example_is_as_likely_in_one_batch_as_in_any_other():
    lengths = np.random.default_rng(0).integers(3, 40, 64)
    counts = np.zeros((64, 8))
    for epoch in range(2000):
        for position, indices in enumerate(batch_indices(lengths, 8, seed=0, epoch=epoch)):
            counts[indices, position] += 1
    deviation = np.sqrt(2000 * 1 / 8 * 7 / 8)
    assert np.abs(counts - 250).max() < 5 * deviation


@pytest.mark.parametrize("batch_size", [16, 32, 64])
def test_batches_have_nearly_equal_totals(batch_size):
    lengths = np.minimum(np.random.default_rng(0).gamma(6, 2.2, 5000).astype(int) + 3, 41)
    totals = [
        lengths[indices].sum() for indices in batch_indices(lengths, batch_size, 0, 0) if len(indices) == batch_size
    ]
    assert np.std(totals) < 0.02 * np.mean(totals)
