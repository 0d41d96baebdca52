"""The order of examples: which of them share an update in each epoch.

Examples are shuffled and stratified by length in windows, so that only one window need be in memory; a set that fits
in one window is shuffled as a whole. The windows of a larger set are drawn in short runs from the whole set, so that a
file sorted by label still gives mixed batches. The order is a pure function of lengths, batch size, seed and epoch.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

WINDOW_EXAMPLES = 2**16
_RUN_EXAMPLES = 2**8  # neighbouring examples that are read together
_RUNS_KEY = 1  # makes the shuffle of runs another than that of windows


class Window(NamedTuple):
    """Examples that are shuffled together."""

    examples: np.ndarray  # [W] their indices, ascending
    batches: list[np.ndarray]  # positions in `examples`, one array a batch


class Order(NamedTuple):
    """Which examples share an update, in every epoch.

    Attributes:
      lengths: [N] tokens of each example.
      batch_size: examples an update; the last batch of an epoch has the rest.
      seed: seed of the run.
      window_examples: examples in a window, rounded down to whole batches.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int
    window_examples: int = WINDOW_EXAMPLES

    def windows(self, epoch: int, first_batch: int = 0) -> Iterator[Window]:
        """The windows of an epoch from the one with `first_batch`, without the batches before it."""
        batches_per_window = max(1, self.window_examples // self.batch_size)
        size, num_examples = batches_per_window * self.batch_size, len(self.lengths)
        runs = self._runs(epoch) if num_examples > size else None
        for index in range(first_batch // batches_per_window, -(-num_examples // size)):
            places = np.arange(index * size, min((index + 1) * size, num_examples))
            if runs is not None:
                places = np.sort(runs[places // _RUN_EXAMPLES] * _RUN_EXAMPLES + places % _RUN_EXAMPLES)
            batches = batch_indices(self.lengths[places], self.batch_size, self.seed, epoch, index)
            yield Window(places, batches[max(0, first_batch - index * batches_per_window) :])

    def batch_lengths(self, epochs: int) -> Iterator[list[int]]:
        """Tokens of each example of each batch of a whole run."""
        for epoch in range(epochs):
            for examples, batches in self.windows(epoch):
                lengths = self.lengths[examples]
                for positions in batches:
                    yield lengths[positions].tolist()

    def _runs(self, epoch: int) -> np.ndarray:
        """The runs of an epoch in the order in which windows take them; the shorter run at the end comes last."""
        whole, rest = divmod(len(self.lengths), _RUN_EXAMPLES)
        key = np.random.SeedSequence([self.seed, epoch], spawn_key=(_RUNS_KEY,))
        runs = np.random.default_rng(key).permutation(whole)
        return np.append(runs, whole) if rest else runs


def batch_indices(lengths: np.ndarray, batch_size: int, seed: int, epoch: int, window: int = 0) -> list[np.ndarray]:
    """The examples of each batch of a window, shuffled so that all batches have nearly the same number of tokens.

    Stratified sampling by length: a random permutation is sorted by length into `batch_size` strata, and each full
    batch takes one example of every stratum. The longest stratum is dealt last, its longest example to the batch with
    the fewest tokens. Each example occurs exactly once, and is equally likely in every batch. Batches of nearly equal
    size fit one compiled shape with little padding; with a plain shuffle, the longest batches waste a tenth of the
    computation.

    Args:
      lengths: [W] tokens of each example.
      batch_size: examples a batch; the last batch has the rest.
      seed: seed of the run.
      epoch: counted from 0.
      window: counted from 0.

    Returns:
      Arrays of indices into `lengths`, one array a batch.
    """
    rng = np.random.default_rng([seed, epoch, window])
    order = rng.permutation(len(lengths))
    full = len(lengths) // batch_size
    rest = order[full * batch_size :]
    if not full:
        return [rest]
    ranked = order[: full * batch_size]
    ranked = ranked[np.argsort(lengths[ranked], kind="stable")]
    *strata, longest = rng.permuted(ranked.reshape(batch_size, full), axis=1)
    if strata:
        heaviest_first = np.argsort(-lengths[np.array(strata)].sum(axis=0), kind="stable")
        dealt = np.empty_like(longest)
        dealt[heaviest_first] = longest[np.argsort(lengths[longest], kind="stable")]
        longest = dealt
    batches = list(np.array([*strata, longest]).T)
    return [*batches, rest] if len(rest) else batches
