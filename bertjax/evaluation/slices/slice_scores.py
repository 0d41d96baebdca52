"""Metrics of slices with bootstrap intervals, and the evidence that a slice is worse than the whole."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.evaluation.judged_rows import JudgedRows
from bertjax.evaluation.slices.sliced_rows import Slice
from bertjax.metrics.reports import WeightedMetrics, better_when
from bertjax.report_pages.blocks import Ranged
from bertjax.tasks import find_evaluator, find_task
from bertjax.tasks.postprocess import Prediction

# Key -> title, the most important first. A report has some of them; the first one of these is the slices' main metric.
TITLES = {
    "f1_micro": "F1, micro",
    "f1": "F1",
    "exact_match": "exact match",
    "accuracy": "accuracy",
    "reciprocal_rank": "mean reciprocal rank",
    "subset_accuracy": "all labels right",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "loss": "loss",
    "perplexity": "perplexity",
    "precision_micro": "precision, micro",
    "recall_micro": "recall, micro",
    "f1_weighted": "F1, weighted",
    "f1_macro": "F1, macro",
}
INTERVAL = (0.025, 0.975)
_NORMAL = 1.96  # standard deviations of a normal distribution on either side, for the same interval
_CELLS = 10**8  # weights of all draws together: a few seconds
_FEWEST_DRAWS = 100
_MANY_ROWS = 4  # of a group, on average, from which numpy counts draws faster than it draws
_FEWEST_ROWS = 2  # one row says nothing of how rows differ


class AlikeRows(NamedTuple):
    """The rows in groups of which each counts the same in the metrics of slices, so that a draw of rows is a draw of
    groups: rows of one true and one predicted label, where a row has one answer.

    Attributes:
      weighted: the metrics of weighted groups.
      group_of: [N] the group of each row.
    """

    weighted: WeightedMetrics
    group_of: np.ndarray

    @property
    def num_groups(self) -> int:
        """K."""
        return int(self.group_of.max()) + 1

    def counts(self, members: np.ndarray) -> np.ndarray:
        """[K] rows of each group among some of all, [N] booleans."""
        return np.bincount(self.group_of[members], minlength=self.num_groups)


class SliceScores(NamedTuple):
    """How the model does on a slice.

    Attributes:
      part: the slice.
      rows: how many it has.
      metrics: key -> value with its interval, NaN where undefined; those of `TITLES` that the report has.
      difference: of the main metric to that of all rows, slice minus whole.
      rank: its place among the slices, the worst one first, from 1; None where it has too few rows to say.
    """

    part: Slice
    rows: int
    metrics: Mapping[str, Ranged]
    difference: Ranged
    rank: int | None = None


class SliceTable(NamedTuple):
    """The scores of all slices.

    Attributes:
      main: key of the metric that slices are compared by; None where the report has no metrics of weighted rows.
      whole: metrics of all rows.
      slices: the ranked ones first, the worst at the top; then those of too few rows, and the empty ones.
      draws: of the bootstrap.
    """

    main: str | None
    whole: Mapping[str, Ranged]
    slices: Sequence[SliceScores]
    draws: int


def alike_rows(judged: JudgedRows, predictions: Sequence[Prediction]) -> AlikeRows | None:
    """The groups of alike rows; None where the task has no metrics of weighted rows.

    Args:
      judged: the rows.
      predictions: of them, as `JudgedRows.predictions` gives them.
    """
    weighted = judged.report.weighted
    if weighted is None:
        return None
    if "mae" in judged.report.metrics:
        return AlikeRows(_mean_errors(judged.scores, judged.examples.labels), np.arange(len(judged.rows.texts)))
    has_one_answer = find_task(judged.loaded.model.task).scores_of == "examples"
    if not has_one_answer or not predictions or not {"label", "labels"} & predictions[0].keys():
        return AlikeRows(weighted, np.arange(len(judged.rows.texts)))
    answers = [
        str((answer["true"], answer.get("predicted", answer.get("label", answer.get("labels")))))
        for answer in predictions
    ]
    _, firsts, group_of = np.unique(answers, return_index=True, return_inverse=True)
    order = np.argsort(firsts)  # groups by their first row, as examples are taken in ascending order
    evaluator, names = find_evaluator(judged.loaded.model.task), judged.loaded.model.labels
    of_groups = evaluator(judged.scores[firsts[order]], judged.examples.at(firsts[order]), names).weighted
    assert of_groups is not None, "the whole report has them"
    return AlikeRows(of_groups, np.argsort(order)[group_of])


def _mean_errors(predictions: np.ndarray, labels: np.ndarray) -> WeightedMetrics:
    """The errors of numbers, [N] or [N, L] each, without the correlations, which take most of the time."""
    errors = (predictions.astype(np.float64) - labels).reshape(len(labels), -1)
    of_rows = {"mae": np.abs(errors).mean(axis=1), "mse": (errors**2).mean(axis=1)}

    def weighted(weights: np.ndarray, parts: bool = False) -> dict[str, np.ndarray]:
        totals = weights.sum(axis=1)
        return {
            key: np.divide(weights @ values, totals, out=np.full(len(weights), np.nan), where=totals > 0)
            for key, values in of_rows.items()
        }

    return weighted


def slice_scores(slices: Sequence[Slice], alike: AlikeRows | None, min_rows: int, draws: int, seed: int) -> SliceTable:
    """Scores and ranks slices.

    A draw is of as many members as a slice has, with replacement, and of as many other rows as there are; the
    difference is to both together. The worst slice is the one that is worse by most at the end of the difference's
    interval that is nearest to none, where the interval reaches at least as far as that of as many rows of the whole
    would: draws of a few rows that are all wrong do not differ, which says little.

    Args:
      slices: any.
      alike: the rows.
      min_rows: slices of fewer rows have no rank.
      draws: of the bootstrap; fewer are made where very many rows would take too long, see `SliceTable.draws`.
      seed: of the draws; those of a slice do not depend on the other slices.
    """
    if alike is None:
        return SliceTable(None, {}, [_unscored(part) for part in slices], 0)
    draws = int(np.clip(_CELLS // (alike.num_groups * (1 + 2 * len(slices))), _FEWEST_DRAWS, draws))
    everything = np.ones(len(alike.group_of), bool)
    whole = _Drawn.of(alike, everything, draws, seed)
    keys = [key for key in TITLES if key in whole.values]
    if not keys:
        return SliceTable(None, {}, [_unscored(part) for part in slices], 0)
    scored = [_scored(part, alike, whole, keys, draws, seed) for part in slices]
    ranked = sorted((entry for entry in scored if entry[0].rows >= min_rows), key=lambda entry: entry[1])
    rest = sorted((entry[0] for entry in scored if entry[0].rows < min_rows), key=lambda scores: -scores.rows)
    worst_first = [scores._replace(rank=rank) for rank, (scores, _) in enumerate(ranked, start=1)]
    return SliceTable(keys[0], whole.ranged(keys), [*worst_first, *rest], draws)


class _Drawn(NamedTuple):
    """The metrics of some rows, and of draws of them.

    Attributes:
      values: metric -> its value.
      drawn: metric -> [R].
      weights: [R, K] how often each group was drawn.
    """

    values: Mapping[str, float]
    drawn: Mapping[str, np.ndarray]
    weights: np.ndarray

    @classmethod
    def of(cls, alike: AlikeRows, members: np.ndarray, draws: int, seed: int) -> "_Drawn":
        """Of one row or more."""
        counts = alike.counts(members)
        weights = _draws(counts, draws, seed)
        metrics = _with_micro(alike.weighted(np.concatenate([counts[None].astype(float), weights])))
        values = {key: float(of_key[0]) for key, of_key in metrics.items()}
        unknown = counts.sum() < _FEWEST_ROWS
        drawn = {key: np.full(draws, np.nan) if unknown else of_key[1:] for key, of_key in metrics.items()}
        return cls(values, drawn, weights)

    def ranged(self, keys: Sequence[str]) -> dict[str, Ranged]:
        """The values with their intervals."""
        return {key: _ranged(self.values[key], self.drawn[key]) for key in keys}


def _draws(counts: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """[R, K] float64: as many rows as there are, drawn with replacement, by their groups."""
    rng, total = np.random.default_rng(seed), int(counts.sum())
    if not total:
        return np.zeros((draws, len(counts)))
    if _MANY_ROWS * len(counts) <= total:
        return rng.multinomial(total, counts / total, size=draws).astype(float)
    group_of = np.repeat(np.arange(len(counts)), counts)
    drawn = group_of[rng.integers(total, size=(draws, total))] + len(counts) * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * len(counts)).reshape(draws, -1).astype(float)


def _with_micro(metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With micro F1, which is the accuracy where a row has one label."""
    is_missing = {"accuracy", "f1_weighted"} <= metrics.keys() and "f1_micro" not in metrics
    return dict(metrics) | ({"f1_micro": metrics["accuracy"]} if is_missing else {})


def _scored(
    part: Slice, alike: AlikeRows, whole: _Drawn, keys: Sequence[str], draws: int, seed: int
) -> tuple[SliceScores, float]:
    """The scores of a slice, and how much better it is at most, which is negative where it is certainly worse."""
    rows = int(part.members.sum())
    if not rows:
        return _unscored(part, keys), np.inf
    own = _Drawn.of(alike, part.members, draws, seed)
    others = _draws(alike.counts(~part.members), draws, seed + 1)
    main, sign = keys[0], -1 if better_when(keys[0]) == "min" else 1
    together = _with_micro(alike.weighted(own.weights + others))[main]
    difference = _ranged(own.values[main] - whole.values[main], own.drawn[main] - together)
    nearest = sign * (difference.high if sign > 0 else difference.low)
    scores = SliceScores(part, rows, own.ranged(keys), difference)
    if np.isnan(nearest):
        return scores, np.inf
    spread = _NORMAL * float(np.nanstd(whole.drawn[main])) * np.sqrt(len(part.members) / rows)
    return scores, max(nearest, sign * difference.value + spread)


def _unscored(part: Slice, keys: Sequence[str] = ()) -> SliceScores:
    undefined = Ranged(np.nan, np.nan, np.nan)
    return SliceScores(part, int(part.members.sum()), dict.fromkeys(keys, undefined), undefined)


def _ranged(value: float, drawn: np.ndarray) -> Ranged:
    """A value with the interval of its draws, of those in which it is defined."""
    known = drawn[~np.isnan(drawn)]
    if not len(known) or np.isnan(value):
        return Ranged(value, np.nan, np.nan)
    low, high = np.quantile(known, INTERVAL)
    return Ranged(value, float(low), float(high))
