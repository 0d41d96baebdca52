"""What a sweep has found, for people: a table for the terminal, pictures, and an HTML page that needs nothing else."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.table import Table

from bertjax.evaluation.aggregate import aggregates
from bertjax.sweeps.results.sweep_results import Results, encoded, importance, shown

_TEMPLATE = Path(__file__).with_name("sweep_report.html.jinja")
_COLOURS = "viridis"
_QUIET, _BEST = "#b8c2cc", "#c0392b"


def console_table(results: Results) -> Table:
    """Every trial, the best first, then those without a score."""
    paths, is_population = list(results.sweep.space), results.sweep.scheduler == "pbt"
    table = Table(title=headline(results), title_justify="left")
    origins = ("went on from",) if is_population else ()
    for name in ("trial", results.metric, "evaluations", *paths, *origins, "status"):
        table.add_column(name)
    scored = results.ranked
    for result in [*scored, *(result for result in results.trials if result.best is None)]:
        trial = result.trial
        table.add_row(
            str(trial.number),
            "" if result.best is None else f"{result.best:.4f}",
            str(len(result.curve)),
            *(shown(trial.values.get(path)) for path in paths),
            *((trial.origin,) if is_population else ()),
            trial.status + (f": {trial.cause}" if trial.cause else ""),
        )
    return table


def headline(results: Results) -> str:
    """How far the sweep is, in a line."""
    statuses = [result.trial.status for result in results.trials]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    best = results.ranked[0] if results.ranked else None
    score = f"; best {results.metric} {best.best:.4f} (trial {best.trial.number})" if best else ""
    return f"{len(results.trials)} of {results.sweep.total_trials} trials{f' ({counts})' if counts else ''}{score}"


def render_report(results: Results) -> str:
    """The page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=f"Sweep {results.folder.name}",
        headline=headline(results),
        metric=results.metric,
        paths=list(results.sweep.space),
        trials=[*results.ranked, *(result for result in results.trials if result.best is None)],
        shown=shown,
        is_population=results.sweep.scheduler == "pbt",
        importance=importance(results),
        seeds=list(results.seeds),
        scores={name: s for name, s in aggregates(list(results.seeds.values())).items() if "/class/" not in name},
        coordinates=_svg(parallel_coordinates(results)) if len(results.ranked) > 1 else None,
        curves=_svg(learning_curves(results)) if results.ranked else None,
    )


def parallel_coordinates(results: Results) -> Any:
    """One line a trial across its settings to its score; brighter is better."""
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
    axes.set_xticks(range(len(paths) + 1), [*(path.replace(".", ".\n") for path in paths), results.metric])
    for x, column in enumerate([*columns, scores.tolist()]):
        axes.axvline(x, color=_QUIET, lw=1, zorder=0)
        _label_axis(axes, x, column)
    axes.set_yticks([])
    axes.set_ylim(-0.08, 1.08)
    axes.spines[:].set_visible(False)
    return figure


def learning_curves(results: Results) -> Any:
    """The score of each trial by step; the best in colour."""
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
            color=_BEST if is_best else _QUIET, zorder=2 if is_best else 1,
            label=f"trial {best}, the best" if is_best else None,
        )  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel(results.metric)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _label_axis(axes: Any, x: int, column: list[Any]) -> None:
    present = [value for value in column if value is not None]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)
    heights = _unit(encoded(column))
    wanted = [min(present), max(present)] if numbers else sorted({str(value) for value in present})
    written = [str(value) for value in column] if not numbers else column
    for value in wanted:
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        axes.annotate(text, (x, heights[written.index(value)]), xytext=(4, 0), textcoords="offset points", fontsize=8)


def _unit(values: np.ndarray) -> np.ndarray:
    """Stretched to [0, 1]; a constant lies in the middle."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread else np.full(len(values), 0.5)


def _svg(figure: Any) -> Markup:
    file = io.StringIO()
    figure.savefig(file, format="svg")
    text = file.getvalue()
    return Markup(text[text.index("<svg") :])
