"""Runs in lockstep: each gets its own metrics, whatever the others do."""

import pytest

from bertjax.errors import UserError
from bertjax.training.multi.lockstep import in_lockstep


def run(name, steps, told, ending=None):
    """Yields its steps as (name, number), and ends as it is told to."""
    try:
        for number in range(steps):
            told.append((name, (yield (name, number))))
        if ending is not None:
            raise ending
    except KeyboardInterrupt:
        told.append((name, "interrupted"))
        raise
    return name


def test_runs_of_different_lengths_and_ends():
    told, asked = [], []

    def train(batches):
        asked.append(batches)
        return [batch and f"of {batch}" for batch in batches]

    mistake = UserError("no")
    outcomes = in_lockstep([run("a", 1, told), run("b", 3, told), run("c", 2, told, mistake), run("d", 0, told)], train)
    assert outcomes == ["a", "b", mistake, "d"]
    assert asked == [
        [("a", 0), ("b", 0), ("c", 0), None], [None, ("b", 1), ("c", 1), None], [None, ("b", 2), None, None],
    ]  # fmt: skip
    assert [metrics for name, metrics in told if name == "b"] == [f"of {('b', i)}" for i in range(3)]


def test_what_ends_the_computation_is_told_to_every_run():
    told = []

    def train(batches):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_lockstep([run("a", 2, told), run("b", 2, told)], train)
    assert told == [("a", "interrupted"), ("b", "interrupted")]
