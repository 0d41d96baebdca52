"""Reports of a run: a table for the terminal and a self-contained HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from bertjax.data.rows.data_report import DataReport
from bertjax.evaluation.reports import Report, ScoreTable
from bertjax.report_pages.html_page import format_number, render_page


def console_table(report: Report, title: str) -> Table:
    """The scores of each part, with the number that matters most in the title."""
    name, value = report.headline[0]
    scores = report.table or ScoreTable("", ("", ""), [(name, (value,)) for name, value in report.headline])
    table = Table(title=f"{title}: {name} {value:.4f}", title_justify="left", show_header=report.table is not None)
    for i, column in enumerate(scores.columns):
        table.add_column(column, justify="right" if i else "left")
    for rows in (scores.rows, scores.averages):
        for part, numbers in rows:
            table.add_row(part, *map(format_number, numbers))
        table.add_section()
    return table


def render_report(
    title: str,
    report: Report,
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
    settings: Mapping[str, Any],
    data_report: DataReport,
) -> str:
    """An HTML page that needs nothing but itself.

    Args:
      title: of the page.
      report: of the test rows.
      metrics: flat, shown except those by class and of the data, which have their tables.
      history: metrics of each epoch and evaluation; rows may differ in what they have; none where nothing was trained.
      settings: flat config.
      data_report: what was read, dropped and removed, and what became of the contract.
    """
    return render_page(
        "run.html.jinja",
        title=title,
        report=report,
        largest=1 if report.confusion is None else int(report.confusion.counts.max()) or 1,
        metrics={key: value for key, value in metrics.items() if "/class/" not in key and not key.startswith("data/")},
        history=history,
        history_columns=list(dict.fromkeys(key for row in history for key in row if "/class/" not in key)),
        settings=settings,
        data_report=data_report,
    )
