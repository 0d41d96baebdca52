"""Packing loses nothing and wastes little; the shapes chosen hold every batch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertjax.data.batching.packing import choose_sizes, pack, pack_by_length

lengths_and_row = st.integers(4, 64).flatmap(
    lambda row: st.tuples(st.lists(st.integers(1, row), min_size=1, max_size=40), st.just(row))
)


@given(lengths_and_row)
def test_every_example_once_and_no_row_too_long(case):
    lengths, row_length = case
    rows = pack(lengths, row_length)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= row_length for row in rows)


@given(lengths_and_row)
def test_at_most_one_row_is_half_empty(case):
    """Two rows that are half empty would have been one."""
    lengths, row_length = case
    fills = [sum(lengths[i] for i in row) for row in pack(lengths, row_length)]
    assert sum(2 * fill < row_length for fill in fills) <= 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 3), st.integers(1, 4))
def test_sizes_hold_every_need_and_fit_the_devices(needs, count, multiple):
    sizes = choose_sizes(needs, count, multiple)
    assert len(sizes) <= count
    assert list(sizes) == sorted(set(sizes))
    assert max(needs) <= sizes[-1] < max(needs) + multiple
    assert all(size % multiple == 0 for size in sizes)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
def test_two_sizes_never_waste_more_than_any_other_two(needs):
    def total(sizes):
        return sum(min(size for size in sizes if size >= need) for need in needs)

    largest = max(needs)
    assert total(choose_sizes(needs, 2)) == min(total((size, largest)) for size in range(1, largest + 1))


def test_real_lengths_are_packed_tight():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.gamma(6, 2.2, 32).astype(int) + 3, 41).tolist()
    rows = pack(lengths, 49)
    assert len(rows) == -(-sum(lengths) // 49)


@given(lengths_and_row)
def test_rows_of_several_lengths_are_the_shortest_that_hold_their_longest_example(case):
    lengths, longest = case
    row_lengths = sorted({longest, (longest + 1) // 2, (longest + 3) // 4})
    packed = pack_by_length(lengths, row_lengths)
    assert [row_length for row_length, _ in packed] == row_lengths[::-1]
    assert sorted(i for _, rows in packed for row in rows for i in row) == list(range(len(lengths)))
    for row_length, rows in packed:
        for row in rows:
            assert sum(lengths[i] for i in row) <= row_length
            assert next(length for length in row_lengths if length >= max(lengths[i] for i in row)) == row_length


def test_the_rows_of_a_fixed_batch_stay():
    """A training run's bits depend on them."""
    lengths = [12, 9, 31, 7, 15, 22, 9, 18, 5, 27, 11, 14, 8, 40, 13, 10]
    assert pack(lengths, 49) == [[13, 1], [2, 7], [9, 5], [4, 14, 10, 15], [11, 0, 6, 12, 8], [3]]
