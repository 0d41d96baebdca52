"""The batch plan of a run: the order of examples, and the few batch shapes to compile."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from bertjax.batch import CLASS_INDEX, Batch, LabelKind, empty_batch
from bertjax.data.batching.example_order import WINDOW_EXAMPLES, Order
from bertjax.data.batching.packing import Layout, choose_sizes, pack
from bertjax.stage_progress import UNSHOWN, StageProgress

_TRAINING_SHAPES = 4  # compiled shapes of a run, at most
_SHAPE_PRICE = 20  # steps; compiling a shape takes as long, so each further shape must save more
_REAL_SHARE = 0.95  # share of computed tokens to be real, if it can be reached with so many shapes
_PADDED_LENGTH_MULTIPLE = 8  # tokens; keeps the number of lengths to choose from small
_SEARCH_BATCHES = 128  # batches in the sample that ranks row lengths
_SEARCH_LENGTHS = 64  # row lengths that are ranked
_ROW_MULTIPLES = {"gpu": 16, "tpu": 16}  # tokens; the rows of a tile of a TPU in bfloat16, 32 bytes of a GPU
# Tokens; rows are longer only if a text is. Longer rows do not pay on a CPU: most of their attention is between
# different examples, and exceeds the caches. 32 texts of 384 words took MiniLM 9.5 s per step in 9 rows of 1376 tokens,
# and 4.4 s in 26 rows of 512, in spite of more padding.
_LONGEST_ROWS = {"cpu": 512}
_TRIED_LENGTHS = 6  # best ranked row lengths that are tried with all batches, until one reaches `_REAL_SHARE`


class Position(NamedTuple):
    """The position of a run in its batches.

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
    """Chooses the shapes of a run from the lengths of all its examples, so that every batch fits.

    Deterministic: a resumed run gets the shapes that it began with.

    Args:
      lengths: [N] tokens of each example.
      hidden_size: D, which sets the cost of a longer row.
      num_devices: the rows of a batch are a multiple of it.
      batch_size, epochs, seed, packed, kind, window_examples: as in `Plan`.
      progress: shows how many batches are packed.
      platform: JAX's name of the kind of device. It limits the length of packed rows on a CPU; on other devices it
        rounds their length to the tiles of the matrix units.
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
    spread = _spread_of(int(lengths.max()), multiple, _LONGEST_ROWS.get(platform))
    candidates = _row_lengths(sample, spread, hidden_size, num_devices, _SHAPE_PRICE / every)
    real = int(lengths.sum()) * epochs
    tried: list[tuple[float, tuple[Layout, ...]]] = []
    for row_length in candidates[:_TRIED_LENGTHS]:
        needs, slots = [], 1
        with progress.stage("planning batches", "batches", plan.total_steps) as advance:
            for batch in plan.order(lengths).batch_lengths(epochs):
                rows = pack(batch, row_length)
                needs.append(len(rows))
                slots = max(slots, *map(len, rows))
                advance(1)
        sizes = _tight_sizes(needs, real / row_length, num_devices, _SHAPE_PRICE)
        share = real / (_rounded_up(needs, sizes) * row_length)
        tried.append((share, tuple(Layout(size, row_length, slots * kind.texts) for size in sizes)))
        if share >= _REAL_SHARE:  # as a rule the first has it, since the sample had
            break
    return plan._replace(layouts=max(tried)[1])


def _spread_of(longest: int, multiple: int, longest_row: int | None) -> range:
    """The row lengths to choose from: multiples of `multiple`, from the longest text to three times its length."""
    shortest = -(-longest // multiple) * multiple
    most = 3 * shortest if longest_row is None else max(shortest, min(3 * shortest, longest_row))
    return range(shortest, most + 1, -(-2 * shortest // (_SEARCH_LENGTHS * multiple)) * multiple)


def _row_lengths(
    batches: list[list[int]], spread: range, hidden_size: int, num_devices: int, shape_price: float
) -> list[int]:
    """Ranks row lengths on a sample of batches: first those with little padding, by cost, then the others, by cost.

    Longer rows pack better, but attention is quadratic: a token costs 1 + T / 2D, which fits MiniLM's training step
    (D = 384) at T = 32, 64 and 128 within 3%.
    """
    real = sum(map(sum, batches))

    def cost(row_length: int) -> tuple[bool, float]:
        needs = [len(pack(batch, row_length)) for batch in batches]
        sizes = _tight_sizes(needs, real / row_length, num_devices, shape_price)
        computed = _rounded_up(needs, sizes)
        rows = computed + shape_price * len(sizes) * sizes[-1]
        return real < _REAL_SHARE * computed * row_length, rows * row_length * (1 + row_length / (2 * hidden_size))

    return sorted(spread, key=cost)


def _tight_sizes(needs: Sequence[int], full_rows: float, multiple: int, price: float) -> tuple[int, ...]:
    """`choose_sizes` for batches that need these numbers of rows: as few as reach `_REAL_SHARE`, or as pay off.

    `full_rows` is the number of rows that all tokens would fill.
    """
    paying = choose_sizes(needs, _TRAINING_SHAPES, multiple, price)
    more = (choose_sizes(needs, count, multiple) for count in range(len(paying) + 1, _TRAINING_SHAPES + 1))
    return next((s for s in (paying, *more) if full_rows >= _REAL_SHARE * _rounded_up(needs, s)), paying)


def _rounded_up(needs: Sequence[int], sizes: Sequence[int]) -> int:
    """The sum of all needs, each rounded up to the next of the sizes."""
    return int(np.asarray(sizes)[np.searchsorted(sizes, needs)].sum())
