"""Batches: the order of examples in each epoch, and their layout in a few fixed shapes.

Everything here is a pure function of the examples, the seed and the step, so a run can be taken up at any step.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import jax
import numpy as np

from bertjax.batch import CLASS_INDEX, UNLABELLED, Batch, LabelKind, empty_batch
from bertjax.data.examples import Examples
from bertjax.data.packing import Layout, Row, choose_sizes, pack, unpacked

_TRAINING_SHAPES = 2  # compiled shapes of a run, at most
_SHAPE_PRICE = 20  # compiling a shape takes as long as this many steps: a second one must save more
_PADDED_LENGTH_MULTIPLE = 8  # tokens; keeps the number of lengths to choose from small
_SEARCH_BATCHES = 64  # batches looked at when choosing the row length
_SEARCH_LENGTHS = 64  # row lengths looked at
_EVALUATION_TOKENS = 4096  # tokens an evaluation batch computes; the order of examples does not matter there
_EVALUATION_CHUNK = 2048  # examples packed together in evaluation


class Position(NamedTuple):
    """How far a run is in its batches: plain integers, to be saved and to go on from with exactly the next batch.

    Attributes:
      epoch: counted from 0.
      batch: batches of that epoch that were taken.
      seed: what the order of examples hangs on.
    """

    epoch: int
    batch: int
    seed: int


class Plan(NamedTuple):
    """How a training set becomes batches.

    Attributes:
      num_examples: in an epoch.
      batch_size: examples an update, over all devices; the last batch of an epoch may be smaller and is never dropped.
      epochs: passes over the examples.
      seed: of the order.
      layouts: the shapes that are compiled, smallest first.
      packed: several examples a row.
      kind: of the labels.
    """

    num_examples: int
    batch_size: int
    epochs: int
    seed: int
    layouts: tuple[Layout, ...]
    packed: bool
    kind: LabelKind = CLASS_INDEX

    @property
    def empty_batches(self) -> list[Batch]:
        """A batch of padding in each shape that is compiled."""
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
        """Where the run is after `step` updates."""
        return Position(*divmod(step, self.steps_per_epoch), self.seed)

    def step(self, position: Position) -> int:
        """The inverse of `position`.

        Raises:
          ValueError: a position in another order of examples.
        """
        if position.seed != self.seed:
            raise ValueError(f"{position} belongs to another order of examples than that of seed {self.seed}")
        return position.epoch * self.steps_per_epoch + position.batch


class LaidOut(NamedTuple):
    """A batch and where its examples came from.

    Attributes:
      example_ids: [B, E] index of each slot's example, -1 in an empty slot; [B, G] where an example is a group of
        texts.
      num_examples, num_tokens: real ones.
    """

    batch: Batch
    example_ids: np.ndarray
    num_examples: int
    num_tokens: int

    def token_sources(self, offsets: np.ndarray) -> np.ndarray:
        """Where each token came from, where an example is one text.

        Args:
          offsets: [N + 1] of the examples.

        Returns:
          [B, T] indices of tokens, counted over all examples; -1 in padding.
        """
        real = self.batch.segment_ids > 0
        examples = np.take_along_axis(self.example_ids, np.maximum(self.batch.segment_ids - 1, 0), axis=1)
        return np.where(real, offsets[examples] + self.batch.position_ids, -1)


class BatchSource(Protocol):
    """The training batches of a run, wherever its examples are kept."""

    @property
    def plan(self) -> Plan:
        """Counts, shapes and order."""
        ...

    def batches(self, start: Position | None = None) -> Iterator[LaidOut]:
        """The batches from a position on, or from the first, to the end of the run."""
        ...


class InMemory(NamedTuple):
    """Batches of examples that are all in memory."""

    examples: Examples
    plan: Plan

    def batches(self, start: Position | None = None) -> Iterator[LaidOut]:
        """The batches from a position on, or from the first, to the end of the run."""
        plan, examples = self.plan, self.examples
        first = start or plan.position(0)
        plan.step(first)
        for epoch in range(first.epoch, plan.epochs):
            taken = first.batch if epoch == first.epoch else 0
            for indices in batch_indices(examples.lengths, plan.batch_size, plan.seed, epoch)[taken:]:
                lengths = examples.lengths[indices].tolist()
                rows = pack(lengths, plan.layouts[0].row_length) if plan.packed else unpacked(lengths)
                yield lay_out(examples, indices, rows, _fitting(plan.layouts, rows, lengths), epoch)


def batch_indices(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The examples of each batch of an epoch, shuffled so that all batches have nearly the same number of tokens.

    Stratified sampling by length: a fresh permutation is sorted by length into `batch_size` strata, and each full
    batch takes one example of every stratum; the longest stratum is dealt last, its longest example to the batch with
    the fewest tokens. Each example comes exactly once, and is as likely in one batch as in any other. Totals that
    hardly vary are what lets every batch fit one compiled shape without padding; a plain shuffle wastes a tenth of
    the computation on its longest batches.

    Args:
      lengths: [N] tokens of each example.
      batch_size: examples a batch; the last batch has the rest.
      seed: of the run.
      epoch: counted from 0.

    Returns:
      Arrays of example indices, one a batch.
    """
    rng = np.random.default_rng([seed, epoch])
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


def plan_training(
    lengths: np.ndarray,
    batch_size: int,
    epochs: int,
    seed: int,
    hidden_size: int,
    num_devices: int,
    packed: bool,
    kind: LabelKind = CLASS_INDEX,
) -> Plan:
    """Chooses the shapes of a run from the lengths of its own batches, all of them, so that every batch fits.

    Args:
      lengths: [N] tokens of each example.
      batch_size: examples an update, over all devices.
      epochs: passes over the examples.
      seed: of the order.
      hidden_size: D, which sets what a longer row costs.
      num_devices: rows come in multiples of it.
      packed: several examples a row, or one.
      kind: of the labels.
    """
    batches = [
        lengths[indices].tolist()
        for epoch in range(epochs)
        for indices in batch_indices(lengths, batch_size, seed, epoch)
    ]
    if packed:
        row_length = _best_row_length(batches, hidden_size, num_devices)
        rows = [pack(batch, row_length) for batch in batches]
        sizes = choose_sizes(map(len, rows), _TRAINING_SHAPES, num_devices, _SHAPE_PRICE)
        slots = max(len(row) for batch in rows for row in batch) * kind.texts
        layouts = tuple(Layout(size, row_length, slots) for size in sizes)
    else:
        num_rows = -(-min(batch_size, len(lengths)) // num_devices) * num_devices
        sizes = choose_sizes(map(max, batches), _TRAINING_SHAPES, _PADDED_LENGTH_MULTIPLE, _SHAPE_PRICE)
        layouts = tuple(Layout(num_rows, size, kind.texts) for size in sizes)
    return Plan(len(lengths), batch_size, epochs, seed, layouts, packed, kind)


def _best_row_length(batches: list[list[int]], hidden_size: int, num_devices: int) -> int:
    """The row length that costs least, judged by a sample of the batches.

    Longer rows pack tighter, but attention grows with their square: a token costs 1 + T / 2D, which fits the training
    step of MiniLM (D = 384) measured at T = 32, 64 and 128 within 3%.
    """
    longest = max(max(batch) for batch in batches)
    sample = batches[:: -(-len(batches) // _SEARCH_BATCHES)]
    price = _SHAPE_PRICE * len(sample) / len(batches)

    def cost(row_length: int) -> float:
        needs = [len(pack(batch, row_length)) for batch in sample]
        sizes = choose_sizes(needs, _TRAINING_SHAPES, num_devices, price)
        rows = sum(min(size for size in sizes if size >= need) for need in needs) + price * len(sizes) * sizes[-1]
        return rows * row_length * (1 + row_length / (2 * hidden_size))

    return min(range(longest, 3 * longest + 1, -(-2 * longest // _SEARCH_LENGTHS)), key=cost)


def shard(laid_out: LaidOut, index: int, count: int) -> LaidOut:
    """The rows of a batch that one of several hosts computes: each row on exactly one, each host as many.

    Args:
      laid_out: the whole batch, the same on every host, its rows a multiple of `count`.
      index: which host, from 0.
      count: hosts.
    """
    num_rows = len(laid_out.example_ids)
    if num_rows % count:
        raise ValueError(f"{num_rows} rows cannot be dealt to {count} hosts")
    own = slice(index * num_rows // count, (index + 1) * num_rows // count)
    batch = jax.tree.map(lambda leaf: leaf[own], laid_out.batch)
    ids = laid_out.example_ids[own]
    return LaidOut(batch, ids, int((ids >= 0).sum()), int((batch.segment_ids > 0).sum()))


def evaluation_batches(examples: Examples, num_devices: int) -> Iterator[LaidOut]:
    """Every example exactly once, packed across the whole set, in one shape."""
    lengths = examples.lengths
    row_length = _evaluation_row_length(int(lengths.max()))
    chunks = [
        np.arange(start, min(start + _EVALUATION_CHUNK, len(lengths)))
        for start in range(0, len(lengths), _EVALUATION_CHUNK)
    ]
    packed = [(chunk, pack(lengths[chunk].tolist(), row_length)) for chunk in chunks]
    most_rows = max(len(rows) for _, rows in packed)
    num_rows = min(most_rows, max(1, _EVALUATION_TOKENS // row_length))
    layout = Layout(
        rows=-(-num_rows // num_devices) * num_devices,
        row_length=row_length,
        slots=max(len(row) for _, rows in packed for row in rows) * examples.kind.texts,
    )
    for chunk, rows in packed:
        for start in range(0, len(rows), layout.rows):
            yield lay_out(examples, chunk, rows[start : start + layout.rows], layout)


def _evaluation_row_length(longest: int) -> int:
    return longest * 3 // 2  # room for a second example in most rows, and short attention


def _fitting(layouts: tuple[Layout, ...], rows: list[Row], lengths: list[int]) -> Layout:
    """The first layout that holds these rows; layouts grow in one direction only."""
    needed_length = max(sum(lengths[i] for i in row) for row in rows)
    return next(layout for layout in layouts if layout.rows >= len(rows) and layout.row_length >= needed_length)


def lay_out(examples: Examples, indices: np.ndarray, rows: list[Row], layout: Layout, epoch: int = 0) -> LaidOut:
    """Writes examples into a batch.

    Args:
      examples: the whole set.
      indices: examples of this batch.
      rows: which of them share a row, as positions in `indices`.
      layout: the shape to fill; rows beyond the given ones stay empty.
      epoch: counted from 0, which has a say where tokens are hidden anew in each.
    """
    batch = empty_batch(*layout, examples.kind)
    texts = examples.kind.texts
    example_ids = np.full((layout.rows, layout.slots // texts), -1, np.int64)
    for r, row in enumerate(rows):
        start = 0
        for place, i in enumerate(row):
            example = int(indices[i])
            source = slice(examples.offsets[example], examples.offsets[example + 1])
            target = slice(start, start + int(source.stop - source.start))
            batch.token_ids[r, target], token_labels = examples.tokens_of(example, epoch)
            batch.token_type_ids[r, target] = examples.token_type_ids[source]
            for text, length in enumerate(examples.lengths_of_texts(example)):
                slot, tokens = place * texts + text, slice(start, start + length)
                batch.position_ids[r, tokens] = np.arange(length)
                batch.segment_ids[r, tokens] = slot + 1
                batch.example_starts[r, slot] = start
                start = tokens.stop
            weight = 1 if examples.weights is None else examples.weights[example]
            if examples.labels_of == "tokens":
                labelled = token_labels != UNLABELLED
                batch.labels[r, target] = np.where(labelled, token_labels, 0)
                batch.example_weights[r, target] = np.where(labelled, weight, 0)
            else:
                batch.labels[r, place] = examples.labels[example]
                batch.example_weights[r, place] = weight
            example_ids[r, place] = example
    return LaidOut(batch, example_ids, int((example_ids >= 0).sum()), int((batch.segment_ids > 0).sum()))
