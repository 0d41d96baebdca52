"""The figures of a comparison, as SVG to put into a page."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bertjax.baselines.compare.summary import Pair, Summary, scores_of
from bertjax.baselines.runners.frameworks import FRAMEWORKS
from bertjax.baselines.runners.runner_result import RunResult
from bertjax.report_pages.html_page import svg

# Colours that colour-blind readers can tell apart (Okabe and Ito 2008); the lines differ in grey too.
_COLORS = {
    "jax": "#0072b2", "torch": "#d55e00", "trainer": "#009e73", "trainer-grouped": "#cc79a7", "onnx": "#56b4e9",
}  # fmt: skip
_LINES = {"jax": "-", "torch": (0, (4, 2)), "trainer": "-.", "trainer-grouped": ":", "onnx": "-"}
_STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e8ec",
    "axes.edgecolor": "#5b6876",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "path",  # text as outlines: the reader needs no font
    "svg.hashsalt": "bertjax",  # the same picture is the same file
}
_WINDOWS = 50  # averages along a curve


def plots(summary: Summary, results: Sequence[RunResult]) -> dict[str, str]:
    """SVG by name: `loss`, `score`, `speed`, and `trajectory` where losses can be compared update by update."""
    figures: dict[str, str] = {}
    trained = [result for result in results if len(result.losses)]
    with matplotlib.rc_context(_STYLE):
        if trained:
            figures["loss"] = _drawn(lambda axes: _losses(axes, trained), 7.2, 3.2)
            speeds = [result.examples_per_second for result in trained]
            figures["speed"] = _drawn(
                lambda axes: _dots(axes, trained, speeds, "training examples / s", True), 3.5, 2.6
            )
        scores, label = [scores_of(result)[summary.metric] for result in results], summary.metric.replace("_", " ")
        figures["score"] = _drawn(lambda axes: _dots(axes, results, scores, label), 3.5, 2.6)
        compared = [pair for pair in summary.pairs if pair.trajectory is not None]
        if compared:
            figures["trajectory"] = _drawn(lambda axes: _trajectories(axes, compared), 7.2, 3.0)
    return figures


def _drawn(draw: Callable[[Axes], None], width: float, height: float) -> str:
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.subplots())
    return svg(figure)


def _losses(axes: Axes, results: Sequence[RunResult]) -> None:
    for name in dict.fromkeys(result.framework for result in results):
        runs = [result for result in results if result.framework == name]
        for run in runs:
            axes.plot(*_averaged(run.losses), color=_COLORS[name], alpha=0.25, linewidth=0.7)
        mean = np.mean([run.losses for run in runs], axis=0)
        title = FRAMEWORKS[name].title
        axes.plot(*_averaged(mean), color=_COLORS[name], linestyle=_LINES[name], linewidth=1.8, label=title)
    axes.set(xlabel="update", ylabel="training loss")
    axes.set_ylim(bottom=0)
    axes.legend()


def _averaged(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve as the centres and means of adjacent windows."""
    windows = np.array_split(np.arange(len(losses)), min(_WINDOWS, len(losses)))
    return (
        np.array([window.mean() + 1 for window in windows]),
        np.array([losses[window].mean() for window in windows]),
    )


def _dots(
    axes: Axes, results: Sequence[RunResult], heights: Sequence[float], label: str, from_zero: bool = False
) -> None:
    """One column a framework, one dot a seed, a line through the dots of a seed, a bar at the mean."""
    columns: dict[str, dict[int, float]] = {}
    for result, height in zip(results, heights, strict=True):
        columns.setdefault(result.framework, {})[result.seed] = height
    for seed in sorted({result.seed for result in results}):
        at = [(x, of_seed[seed]) for x, of_seed in enumerate(columns.values()) if seed in of_seed]
        axes.plot(*zip(*at, strict=True), color="#b8c0c8", linewidth=0.8, zorder=1)
    for x, (name, of_seed) in enumerate(columns.items()):
        axes.scatter([x] * len(of_seed), list(of_seed.values()), s=16, color=_COLORS[name], zorder=2)
        axes.hlines(float(np.mean(list(of_seed.values()))), x - 0.18, x + 0.18, color=_COLORS[name], linewidth=2)
    axes.set_xticks(range(len(columns)), [FRAMEWORKS[name].title for name in columns])
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set(ylabel=label)
    if from_zero:
        axes.set_ylim(bottom=0)


def _trajectories(axes: Axes, pairs: Sequence[Pair]) -> None:
    floor = 1e-9  # of a logarithmic axis, for losses that are equal to the last bit
    for pair in pairs:
        assert pair.trajectory is not None
        steps = np.arange(1, pair.trajectory.shape[1] + 1)
        for distances in pair.trajectory:
            axes.plot(steps, np.maximum(distances, floor), color=_COLORS[pair.second], alpha=0.3, linewidth=0.7)
        worst = np.maximum(pair.trajectory.max(axis=0), floor)
        names = f"{FRAMEWORKS[pair.first].title}, {FRAMEWORKS[pair.second].title}: worst seed"
        axes.plot(steps, worst, color=_COLORS[pair.second], linewidth=1.2, label=names)
    axes.set(xlabel="update", ylabel="|difference of losses|", yscale="log")
    axes.legend()
