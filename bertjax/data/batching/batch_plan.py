"""The plan of a run: the number and order of examples, and the few compiled shapes of their batches."""

import math
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from bertjax.batch import CLASS_INDEX, Batch, LabelKind, empty_batch
from bertjax.data.batching.example_order import WINDOW_EXAMPLES, Order
from bertjax.data.batching.packing import Layout, choose_sizes, pack
from bertjax.stage_progress import UNSHOWN, StageProgress

_TRAINING_SHAPES = 4  # compiled shapes of a run at most
_SHAPE_PRICE = 20  # compiling a shape takes as long as this many steps: a second one must save more
_REAL_SHARE = 0.95  # share of computed tokens that must be real, where four shapes reach it
_PADDED_LENGTH_MULTIPLE = 8  # tokens; keeps the number of lengths to choose from small
_SEARCH_BATCHES = 128  # batches in the sample that ranks row lengths
_SEARCH_LENGTHS = 64  # row lengths that are ranked
_ROW_MULTIPLES = {"gpu": 16, "tpu": 16}  # tokens; the rows of a tile of a TPU in bfloat16, 32 bytes of a GPU
_FILLING_WORTH = {"cpu": 1.1}  # that share may cost so many times what the cheapest rows do; elsewhere it comes first
_TRIED_LENGTHS = 6  # best ranked row lengths that are tried with all batches, until one has that share


class Position(NamedTuple):
    """The position of a run in its batches: plain integers that a checkpoint saves, to resume with the next batch.

    Attributes:
      epoch: counted from 0.
      batch: batches of that epoch that are done.
      seed: seed of the order of examples.
    """

    epoch: int
    batch: int
    seed: int


class Plan(NamedTuple):
    """The order and shapes of training batches.

    Attributes:
      num_examples: examples in an epoch.
      batch_size: examples an update, over all devices; the last batch of an epoch may be smaller and is never dropped.
      epochs: passes over the examples.
      seed: seed of the order.
      layouts: the compiled shapes, smallest first.
      packed: whether a row has several examples.
      kind: kind of the labels.
      window_examples: see `Order`.
    """

    num_examples: int
    batch_size: int
    epochs: int
    seed: int
    layouts: tuple[Layout, ...]
    packed: bool
    kind: LabelKind = CLASS_INDEX
    window_examples: int = WINDOW_EXAMPLES

    def order(self, lengths: np.ndarray) -> Order:
        """The order of examples of these lengths."""
        return Order(lengths, self.batch_size, self.seed, self.window_examples)

    @property
    def empty_batches(self) -> list[Batch]:
        """A batch of padding in each compiled shape."""
        return [empty_batch(*layout, self.kind) for layout in self.layouts]

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch."""
        return -(-self.num_examples // self.batch_size)

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return self.epochs * self.steps_per_epoch

    def position(self, step: int) -> Position:
        """The position after `step` updates."""
        return Position(*divmod(step, self.steps_per_epoch), self.seed)

    def step(self, position: Position) -> int:
        """The inverse of `position`.

        Raises:
          ValueError: a position in another order of examples.
        """
        if position.seed != self.seed:
            raise ValueError(f"{position} belongs to another order of examples than that of seed {self.seed}")
        return position.epoch * self.steps_per_epoch + position.batch


def plan_training(
    lengths: np.ndarray,
    batch_size: int,
    epochs: int,
    seed: int,
    hidden_size: int,
    num_devices: int,
    packed: bool,
    kind: LabelKind = CLASS_INDEX,
    window_examples: int = WINDOW_EXAMPLES,
    progress: StageProgress = UNSHOWN,
    platform: str = "cpu",
) -> Plan:
    """Chooses the shapes of a run from the lengths of all its batches, so that every batch fits.

    The same arguments give the same shapes: a resumed run has those that it began with.

    Args:
      lengths: [N] tokens of each example.
      hidden_size: D, which sets the cost of a longer row.
      num_devices: the rows of a batch are a multiple of it.
      batch_size, epochs, seed, packed, kind, window_examples: as in `Plan`.
      progress: shows how many batches are packed.
      platform: JAX's name of the kind of device. On a CPU packed rows of long texts are shorter, though less full,
        where attention would cost more than the padding; on other devices their lengths are multiples of what the units
        for matrix products read at once.
    """
    plan = Plan(len(lengths), batch_size, epochs, seed, (), packed, kind, window_examples)
    if not packed:
        num_rows = -(-min(batch_size, len(lengths)) // num_devices) * num_devices
        sizes = choose_sizes(
            map(max, plan.order(lengths).batch_lengths(epochs)), _TRAINING_SHAPES, _PADDED_LENGTH_MULTIPLE, _SHAPE_PRICE
        )
        return plan._replace(layouts=tuple(Layout(num_rows, size, kind.texts) for size in sizes))
    every = -(-plan.total_steps // _SEARCH_BATCHES)
    sample = list(islice(plan.order(lengths).batch_lengths(epochs), 0, None, every))
    multiple = _ROW_MULTIPLES.get(platform, 1)
    worth = _FILLING_WORTH.get(platform, math.inf)
    candidates = _row_lengths(
        sample, int(lengths.max()), multiple, hidden_size, num_devices, _SHAPE_PRICE / every, worth
    )
    real = int(lengths.sum()) * epochs
    tried: list[tuple[float, tuple[Layout, ...]]] = []  # cost and shapes
    for row_length in candidates[:_TRIED_LENGTHS]:
        needs, slots = [], 1
        with progress.stage("planning batches", "batches", plan.total_steps) as advance:
            for batch in plan.order(lengths).batch_lengths(epochs):
                rows = pack(batch, row_length)
                needs.append(len(rows))
                slots = max(slots, *map(len, rows))
                advance(1)
        sizes = _tight_sizes(needs, real / row_length, num_devices, _SHAPE_PRICE)
        tokens = _rounded_up(needs, sizes) * row_length
        shapes = tuple(Layout(size, row_length, slots * kind.texts) for size in sizes)
        tried.append((tokens * (_token_cost(row_length, hidden_size) if platform in _FILLING_WORTH else 1), shapes))
        if real >= _REAL_SHARE * tokens:  # as a rule the first has it where texts are short, since the sample had
            break
    return plan._replace(layouts=min(tried)[1])


def _row_lengths(
    batches: list[list[int]],
    longest: int,
    multiple: int,
    hidden_size: int,
    num_devices: int,
    shape_price: float,
    filling_worth: float,
) -> list[int]:
    """Multiples of `multiple`, ranked by a sample of batches.

    Longer rows pack tighter, but attention grows with their square. Rows with little padding come first, unless they
    cost more than `filling_worth` times the cheapest; each group goes from cheap to costly.
    """
    real = sum(map(sum, batches))

    def measured(row_length: int) -> tuple[float, bool, int]:
        needs = [len(pack(batch, row_length)) for batch in batches]
        sizes = _tight_sizes(needs, real / row_length, num_devices, shape_price)
        computed = _rounded_up(needs, sizes)
        rows = computed + shape_price * len(sizes) * sizes[-1]
        full = real >= _REAL_SHARE * computed * row_length
        return rows * row_length * _token_cost(row_length, hidden_size), full, row_length

    shortest = -(-longest // multiple) * multiple
    step = -(-2 * shortest // (_SEARCH_LENGTHS * multiple)) * multiple
    ranked = sorted(map(measured, range(shortest, 3 * shortest + 1, step)))
    dearest = filling_worth * ranked[0][0]
    return [length for *_, length in sorted(ranked, key=lambda row: not (row[1] and row[0] <= dearest))]


def _token_cost(row_length: int, hidden_size: int) -> float:
    """Time of a token in a row of T tokens, in that of its products with weights: 1 + T / 2D.

    It fits the training step of MiniLM (D = 384) on a CPU measured at T = 32, 64 and 128 within 3%, and is too low for
    long rows, whose weights of attention no longer fit in a cache: 32 texts of 384 words took 9.5 s in 9 rows of 1376
    tokens and 4.4 s in 26 rows of 512, for all their padding. A GPU's kernels skip the pairs of different examples.
    """
    return 1 + row_length / (2 * hidden_size)


def _tight_sizes(needs: Sequence[int], full_rows: float, multiple: int, price: float) -> tuple[int, ...]:
    """`choose_sizes` for batches that need this many rows: as few as leave little padding, and more where they pay.

    `full_rows` is the number of rows that all tokens would fill.
    """
    paying = choose_sizes(needs, _TRAINING_SHAPES, multiple, price)
    more = (choose_sizes(needs, count, multiple) for count in range(len(paying) + 1, _TRAINING_SHAPES + 1))
    return next((s for s in (paying, *more) if full_rows >= _REAL_SHARE * _rounded_up(needs, s)), paying)


def _rounded_up(needs: Sequence[int], sizes: Sequence[int]) -> int:
    """The sum of all needs, each rounded up to the next of the sizes."""
    return int(np.asarray(sizes)[np.searchsorted(sizes, needs)].sum())
