"""Lengths in word pieces of a model, what a limit cuts, and what packing makes of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.packing import Layout, pack
from bertjax.data.encode.token_checks import count_unknown
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.labelled_rows import Rows, Text, as_string
from bertjax.report_pages.histogram import Histogram, histogram
from bertjax.settings import LONGEST
from bertjax.stage_progress import UNSHOWN, StageProgress

MOST_CHARACTERS = 100_000  # of a text that are tokenized
_TEXTS_AT_ONCE = 5_000
_CHARACTERS_AT_ONCE = 2_000_000
_PACKED_EXAMPLES = 20_000  # that the plan of a run is made for
_WINDOWED = ("token_classification", "question_answering", "masked_lm")  # tasks that read long texts in parts


class ModelLimits(NamedTuple):
    """What a model reads."""

    name: str
    tokenizer: PreTrainedTokenizerFast
    hidden_size: int  # D, which sets the cost of long rows
    max_length: int  # longest example, in tokens
    batch_size: int  # examples an update


class Packed(NamedTuple):
    """Batches of a run: what share of the tokens that are computed is text."""

    batch_size: int
    packed_share: float
    padded_share: float  # with an example a row
    shapes: tuple[str, ...]  # compiled, as "rows x tokens"


class Lengths(NamedTuple):
    """Tokens of the inputs of a network, special ones included.

    Attributes:
      model: whose word pieces they are.
      max_length: the limit.
      inputs: their number; a row may be several.
      mean, median, percentile_95, percentile_99, longest: in tokens.
      longer: inputs above the limit.
      windowed: whether the task reads these in several windows; else they are cut.
      lost: share of all tokens that is cut.
      unknown: share of [UNK] among the tokens of texts.
      empty: inputs of which the tokenizer makes nothing.
      abridged: inputs of which only the first 100,000 characters were read.
      histogram: of the lengths, those above the 99.5th percentile in its last bin.
      packed: what packing makes of them.
    """

    model: str
    max_length: int
    inputs: int
    mean: float
    median: float
    percentile_95: float
    percentile_99: float
    longest: int
    longer: int
    windowed: bool
    lost: float
    unknown: float
    empty: int
    abridged: int
    histogram: Histogram
    packed: Packed


def token_lengths(rows: Rows, task: str, model: ModelLimits, progress: StageProgress = UNSHOWN) -> Lengths:
    """Measures the inputs that a task makes of some rows, of which there is one at least; shows how many it has."""
    texts, pairs = _inputs(rows, task)
    special = model.tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    parts = []
    unknown = of_texts = 0
    with progress.stage("counting tokens", "texts", len(texts)) as advance:
        for part in _parts(texts, pairs):
            second = None if pairs is None else [pair[:MOST_CHARACTERS] for pair in pairs[part]]
            first = [text[:MOST_CHARACTERS] for text in texts[part]]
            labels = np.zeros(len(first), np.int32)
            examples = tokenize(model.tokenizer, first, second, labels, LONGEST)
            unknowns, tokens = count_unknown(model.tokenizer, examples.token_ids)
            unknown, of_texts = unknown + unknowns, of_texts + tokens
            parts.append(examples.lengths)
            advance(len(first))
    lengths = np.concatenate(parts)
    median, high, higher = np.quantile(lengths, [0.5, 0.95, 0.99]).tolist()
    top = int(np.quantile(lengths, 0.995, method="higher"))
    return Lengths(
        model=model.name,
        max_length=model.max_length,
        inputs=len(lengths),
        mean=float(lengths.mean()),
        median=median,
        percentile_95=high,
        percentile_99=higher,
        longest=int(lengths.max()),
        longer=int((lengths > model.max_length).sum()),
        windowed=task in _WINDOWED,
        lost=float(np.maximum(lengths - model.max_length, 0).sum() / lengths.sum()),
        unknown=unknown / max(of_texts, 1),
        empty=int((lengths <= special).sum()),
        abridged=sum(len(text) > MOST_CHARACTERS for text in (*texts, *(pairs or ()))),
        histogram=histogram(np.minimum(lengths, top)),
        packed=_packed(lengths, model),
    )


def _inputs(rows: Rows, task: str) -> tuple[list[str], list[str] | None]:
    """The texts, or pairs, that a network reads at once."""
    texts = list(map(as_string, rows.texts))
    if rows.pairs is None:
        return texts, None
    if task == "sentence_embedding":
        return [part for pair in zip(texts, map(as_string, rows.pairs), strict=True) for part in pair], None
    candidates: list[Sequence[str]] = [[pair] if isinstance(pair, str) else pair for pair in rows.pairs]
    return (
        [text for text, of_row in zip(texts, candidates, strict=True) for _ in of_row],
        [candidate for of_row in candidates for candidate in of_row],
    )


def _parts(texts: Sequence[Text], pairs: Sequence[Text] | None) -> Iterator[slice]:
    """Slices of the texts that are tokenized together, so that few tokens are in memory as Python's integers."""
    sizes = np.minimum([len(text) for text in texts], MOST_CHARACTERS)
    if pairs is not None:
        sizes = sizes + np.minimum([len(pair) for pair in pairs], MOST_CHARACTERS)
    ends = np.cumsum(sizes)
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + _CHARACTERS_AT_ONCE, side="right"))
        stop = min(max(stop, start + 1), start + _TEXTS_AT_ONCE)
        yield slice(start, stop)
        start = stop


def _packed(lengths: np.ndarray, model: ModelLimits) -> Packed:
    """The share of real tokens in the batches of a run, of examples evenly spaced where there are many."""
    chosen = np.unique(np.linspace(0, len(lengths) - 1, min(len(lengths), _PACKED_EXAMPLES)).astype(np.int64))
    cut = np.minimum(lengths[chosen], model.max_length)

    def share(packed: bool) -> tuple[float, tuple[Layout, ...]]:
        plan = plan_training(cut, model.batch_size, 1, 0, model.hidden_size, num_devices=1, packed=packed)
        computed = sum(_fitting(plan.layouts, batch, packed).tokens for batch in plan.order(cut).batch_lengths(1))
        return int(cut.sum()) / computed, plan.layouts

    (packed_share, layouts), (padded_share, _) = share(packed=True), share(packed=False)
    shapes = tuple(f"{layout.rows} x {layout.row_length}" for layout in layouts)
    return Packed(model.batch_size, packed_share, padded_share, shapes)


def _fitting(layouts: Sequence[Layout], batch: Sequence[int], packed: bool) -> Layout:
    """The smallest shape that holds a batch of these lengths: packed ones differ in rows, padded ones in row length."""
    if packed:
        rows = len(pack(batch, layouts[0].row_length))
        return next(layout for layout in layouts if layout.rows >= rows)
    return next(layout for layout in layouts if layout.row_length >= max(batch))
