"""The charts of a comparison."""

from collections.abc import Sequence

import numpy as np

from bertjax.baselines.compare.summary import Pair, Summary, scores_of
from bertjax.baselines.runners.frameworks import FRAMEWORKS
from bertjax.baselines.runners.runner_result import RunResult
from bertjax.report_pages.blocks import Figure
from bertjax.report_pages.charts import Dots, Lines, Point

_WINDOWS = 50  # averages along a curve


def loss_curves(trained: Sequence[RunResult]) -> Figure:
    """The training loss of each framework: the mean over its seeds, and each seed."""
    means, seeds = {}, {}
    for name in dict.fromkeys(result.framework for result in trained):
        losses = [result.losses for result in trained if result.framework == name]
        title = FRAMEWORKS[name].title
        means[title] = _averaged(np.mean(losses, axis=0))
        seeds[title] = [_averaged(of_seed) for of_seed in losses]
    return Figure(
        Lines("Training loss", means, "update", "training loss", "count", faint=seeds),
        "Training loss, averaged over windows of updates: bold the mean over seeds, faint each seed.",
    )


def loss_distances(pairs: Sequence[Pair]) -> Figure:
    """How far the losses of two frameworks are apart, update by update."""
    worst, seeds = {}, {}
    for pair in pairs:
        assert pair.trajectory is not None
        name = f"{FRAMEWORKS[pair.first].title}, {FRAMEWORKS[pair.second].title}: worst seed"
        worst[name] = _by_update(pair.trajectory.max(axis=0))
        seeds[name] = [_by_update(distances) for distances in pair.trajectory]
    return Figure(
        Lines("Distance of losses", worst, "update", "difference of losses", "count", faint=seeds, y_scale="log"),
        "Without dropout both sides compute the same numbers, up to rounding that training amplifies: distance of "
        "their losses, update by update.",
    )


def scores_by_seed(summary: Summary, results: Sequence[RunResult]) -> Figure:
    """The score of each run."""
    scores = [scores_of(result)[summary.metric] for result in results]
    return Figure(
        _dots("Scores by seed", results, scores, summary.metric.replace("_", " ")),
        "Each dot a seed, lines join a seed, bars are means.",
    )


def speeds_by_seed(trained: Sequence[RunResult]) -> Figure:
    """The training speed of each run."""
    speeds = [result.examples_per_second for result in trained]
    return Figure(
        _dots("Speed by seed", trained, speeds, "training examples / s", from_zero=True),
        "Speed of each run; runs of a seed followed one another.",
    )


def _dots(
    title: str, results: Sequence[RunResult], values: Sequence[float], what: str, from_zero: bool = False
) -> Dots:
    groups: dict[str, dict[str, float]] = {}
    for result, value in zip(results, values, strict=True):
        groups.setdefault(FRAMEWORKS[result.framework].title, {})[str(result.seed)] = value
    return Dots(title, groups, what, group_title="framework", dot_title="seed", from_zero=from_zero)


def _averaged(losses: np.ndarray) -> list[Point]:
    """A curve as the centres and means of adjacent windows."""
    windows = np.array_split(np.arange(len(losses)), min(_WINDOWS, len(losses)))
    return [(float(window.mean()) + 1, float(losses[window].mean())) for window in windows]


def _by_update(distances: np.ndarray) -> list[Point]:
    return [(step, distance) for step, distance in enumerate(distances.tolist(), start=1)]
