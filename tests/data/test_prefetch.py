"""Prefetching changes when batches are made, and nothing else."""

import threading
import time

import pytest

from bertjax.data.batching.prefetch import prefetched


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("depth", [1, 2, 50])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_same_items_in_the_same_order(depth, count):
    assert list(prefetched(range(count), depth)) == list(range(count))
    assert not threads()


def test_items_are_made_ahead_and_not_without_bound():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    taken = prefetched(items(), depth=3)
    assert next(taken) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(made) == 5  # one taken, three waiting, one in the hand of the thread
    taken.close()
    assert not threads()


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("the disk is gone")

    taken = prefetched(items())
    assert next(taken) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(taken)
    assert not threads()


def test_the_thread_ends_when_the_items_are_left():
    for item in prefetched(iter(int, 1)):  # zeros without end
        assert item == 0
        break
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()
