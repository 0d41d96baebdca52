"""The report of a sweep: a table for the terminal, and an HTML page with pictures inside."""

import textwrap
from typing import Any

import numpy as np

from bertjax.metrics.aggregate import aggregates
from bertjax.metrics.reports import is_of_whole
from bertjax.report_pages.blocks import Block, Cell, DataTable, Details, Figure, Paragraph, Section, Written
from bertjax.report_pages.charts import Bars, Lines, Parallel, ParallelAxis
from bertjax.report_pages.html_report import render_sections
from bertjax.report_pages.text_table import TextTable
from bertjax.sweeps.results.sweep_results import Results, encoded, importance, shown

_LONGEST_CAUSE = 50  # characters in the table of the terminal; the page and the ledger have all
_FEW = 10  # causes that are shown unfolded


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
    sections = [
        *([Section("coordinates", "Settings and scores", [_coordinates(results)])] if results.ranked[1:] else []),
        *_importance(results),
        *([Section("curves", "Learning curves", [_curves(results)])] if results.ranked else []),
        *([_seeds(results)] if results.seeds else []),
        _trials(results),
    ]
    return render_sections(f"Sweep {results.folder.name}", sections, headline(results))


def _coordinates(results: Results) -> Figure:
    """A line a trial, across its settings to its score."""
    scored = results.ranked
    costs = np.array([result.cost for result in scored])
    settings = {path: [result.trial.values.get(path) for result in scored] for path in results.sweep.space}
    axes = [_axis(name, values) for name, values in (settings | {results.metric: [r.best for r in scored]}).items()]
    names = [f"trial {result.trial.number}" for result in scored]
    return Figure(
        Parallel("Settings and scores", names, axes, _unit(-costs).tolist()),
        "One line a trial; the stronger, the better, and the one in another colour is the best. Scales that span a "
        "factor of ten or more are logarithmic.",
    )


def _axis(name: str, values: list[Any]) -> ParallelAxis:
    """The values of a setting, with the least and the greatest of numbers written, and all others."""
    places = _unit(encoded(values)).tolist()
    present = [value for value in values if value is not None]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)
    labels = [min(present), max(present)] if numbers and present else present
    labelled = dict.fromkeys(places[values.index(label)] for label in labels)
    return ParallelAxis(name, places, [shown(value) for value in values], list(labelled))


def _importance(results: Results) -> list[Section]:
    shares = importance(results)
    if not shares:
        return []
    chart = Bars("Importance of settings", shares, "share", "setting", "share")
    caption = (
        "Permutation importance in a random forest that predicts the score from the settings; with few trials, a hint "
        "and no more."
    )
    return [Section("importance", "What moved the score", [Figure(chart, caption)])]


def _curves(results: Results) -> Figure:
    """The score of each trial by step; the best one stands out."""
    best = results.ranked[0]
    others = [result.curve for result in results.trials if result is not best and result.curve]
    series = {f"trial {best.trial.number}, the best": best.curve}
    chart = Lines("Learning curves", series, "step", results.metric, "count", faint={"other trials": others})
    return Figure(chart, "Score by step; the scores of the other trials are in the table of trials.")


def _seeds(results: Results) -> Section:
    scores = {name: score for name, score in aggregates(list(results.seeds.values())).items() if is_of_whole(name)}
    rows = [(name, score.mean, score.deviation) for name, score in scores.items()]
    title = f"The best config with seeds {', '.join(map(str, results.seeds))}"
    return Section("seeds", title, [DataTable(("metric", "mean", "sd"), rows)])


def _trials(results: Results) -> Section:
    paths = list(results.sweep.space)
    rows = [
        (
            result.trial.number,
            result.best,
            len(result.curve),
            *(_setting(result.trial.values.get(path)) for path in paths),
            result.trial.status,
        )
        for result in [*results.ranked, *(result for result in results.trials if result.best is None)]
    ]
    failed = [f"trial {result.trial.number}: {result.trial.cause}" for result in results.trials if result.trial.cause]
    blocks: list[Block] = [DataTable(("trial", results.metric, "evaluations", *paths, "status"), rows)]
    if failed:
        blocks.append(Details("Why trials ended early", list(map(Paragraph, failed)), is_open=len(failed) <= _FEW))
    return Section("trials", "Trials", blocks)


def _setting(value: Any) -> Cell:
    """A number by its size, everything else as words."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Written(value, shown(value)) if is_number else shown(value)


def _unit(values: np.ndarray) -> np.ndarray:
    """Values scaled to [0, 1]; a constant lies in the middle."""
    extent = np.ptp(values)
    return (values - values.min()) / extent if extent else np.full(len(values), 0.5)
