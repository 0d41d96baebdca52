"""The report of a sweep: a table for the terminal, and an HTML page with figures inside."""

import textwrap
from typing import Any

import numpy as np

from bertjax.metrics.aggregate import aggregates
from bertjax.report_pages.html_page import render_page, svg
from bertjax.report_pages.literal_text import figure_text
from bertjax.report_pages.text_table import TextTable
from bertjax.sweeps.results.sweep_results import Results, encoded, importance, shown

_LONGEST_CAUSE = 50  # characters in the table of the terminal; the page and the ledger have all
_COLOURS = "viridis"
_GREY, _BEST = "#b8c2cc", "#c0392b"


def console_table(results: Results) -> TextTable:
    """A row a trial: the best first, those without a score last."""
    paths = list(results.sweep.space)
    table = TextTable("trial", results.metric, "evaluations", *paths, "status", title=headline(results))
    scored = results.ranked
    for result in [*scored, *(result for result in results.trials if result.best is None)]:
        trial = result.trial
        table.add_row(
            str(trial.number),
            "" if result.best is None else f"{result.best:.4f}",
            str(len(result.curve)),
            *(shown(trial.values.get(path)) for path in paths),
            trial.status + (f": {_shortened(trial.cause)}" if trial.cause else ""),
        )
    return table


def _shortened(cause: str) -> str:
    return textwrap.shorten(cause, _LONGEST_CAUSE, placeholder=" ...")


def headline(results: Results) -> str:
    """The progress of the sweep in one line."""
    statuses = [result.trial.status for result in results.trials]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    best = results.ranked[0] if results.ranked else None
    score = f"; best {results.metric} {best.best:.4f} (trial {best.trial.number})" if best else ""
    return f"{len(results.trials)} of {results.sweep.total_trials} trials{f' ({counts})' if counts else ''}{score}"


def render_report(results: Results) -> str:
    """The HTML page."""
    return render_page(
        "sweep.html.jinja",
        title=f"Sweep {results.folder.name}",
        headline=headline(results),
        metric=results.metric,
        paths=list(results.sweep.space),
        trials=[*results.ranked, *(result for result in results.trials if result.best is None)],
        shown=shown,
        importance=importance(results),
        seeds=list(results.seeds),
        scores={name: s for name, s in aggregates(list(results.seeds.values())).items() if "/class/" not in name},
        coordinates=svg(parallel_coordinates(results)) if len(results.ranked) > 1 else None,
        curves=svg(learning_curves(results)) if results.ranked else None,
    )


def parallel_coordinates(results: Results) -> Any:
    """A figure with one line a trial, across its settings to its score; brighter is better."""
    from matplotlib.figure import Figure

    scored, paths = results.ranked, list(results.sweep.space)
    scores, costs = (np.array([getattr(result, name) for result in scored], float) for name in ("best", "cost"))
    columns = [[result.trial.values.get(path) for result in scored] for path in paths]
    axes_values = [_unit(encoded(column)) for column in columns] + [_unit(scores)]
    figure = Figure(figsize=(max(6, 2.2 * (len(paths) + 1)), 4), layout="constrained")
    axes = figure.subplots()
    import matplotlib

    colours = matplotlib.colormaps[_COLOURS](_unit(-costs) * 0.95)
    for i in reversed(range(len(scored))):
        heights = [values[i] for values in axes_values]
        axes.plot(range(len(heights)), heights, color=colours[i], lw=2.5 if i == 0 else 1.2, alpha=1 if i == 0 else 0.7)
    names = [*(path.replace(".", ".\n") for path in paths), figure_text(results.metric)]
    axes.set_xticks(range(len(paths) + 1), names)
    for x, column in enumerate([*columns, scores.tolist()]):
        axes.axvline(x, color=_GREY, lw=1, zorder=0)
        _label_axis(axes, x, column)
    axes.set_yticks([])
    axes.set_ylim(-0.08, 1.08)
    axes.spines[:].set_visible(False)
    return figure


def learning_curves(results: Results) -> Any:
    """A figure with the score of each trial by step; the best one in colour."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    best = results.ranked[0].trial.number
    for result in results.trials:
        if not result.curve:
            continue
        steps, values = zip(*result.curve, strict=True)
        is_best = result.trial.number == best
        axes.plot(
            steps, values, marker="o", ms=4 if is_best else 2.5, lw=2 if is_best else 1,
            color=_BEST if is_best else _GREY, zorder=2 if is_best else 1,
            label=f"trial {best}, the best" if is_best else None,
        )  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel(figure_text(results.metric))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _label_axis(axes: Any, x: int, column: list[Any]) -> None:
    present = [value for value in column if value is not None]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)
    heights = _unit(encoded(column))
    labels = [min(present), max(present)] if numbers else sorted({str(value) for value in present})
    entries = column if numbers else [str(value) for value in column]
    for label in labels:
        height = heights[entries.index(label)]
        axes.annotate(figure_text(shown(label)), (x, height), xytext=(4, 0), textcoords="offset points", fontsize=8)


def _unit(values: np.ndarray) -> np.ndarray:
    """Values scaled to [0, 1]; a constant lies in the middle."""
    extent = np.ptp(values)
    return (values - values.min()) / extent if extent else np.full(len(values), 0.5)
