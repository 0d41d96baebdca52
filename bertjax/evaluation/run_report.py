"""The report of a run: a table for the terminal and a self-contained HTML page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bertjax.data.validate.data_report import DataReport
from bertjax.evaluation.judged_rows import Finding
from bertjax.metrics.reports import Report, ScoreTable
from bertjax.report_pages.blocks import Cell, DataTable, Ranged, Share
from bertjax.report_pages.html_page import format_number, render_page
from bertjax.report_pages.text_table import TextTable


def console_table(report: Report, title: str) -> TextTable:
    """A table with the scores of each part; the headline score is in the title."""
    name, value = report.headline[0]
    scores = report.table or ScoreTable("", ("", ""), [(name, (value,)) for name, value in report.headline])
    table = TextTable(title=f"{title}: {name} {value:.4f}", show_header=report.table is not None)
    for i, column in enumerate(scores.columns):
        table.add_column(column, justify="right" if i else "left")
    for rows in (scores.rows, scores.averages):
        for part, numbers in rows:
            table.add_row(part, *map(format_number, numbers))
        table.add_section()
    return table


def finding_tables(finding: Finding) -> Iterator[TextTable]:
    """The tables of a finding for the terminal, without those that are folded away."""
    for block in finding.section.blocks:
        if isinstance(block, DataTable):
            table = TextTable(title=f"{finding.section.title}: {block.caption}")
            for i, column in enumerate(block.columns):
                table.add_column(column, justify="right" if i else "left")
            for row in (*block.rows, *block.averages):
                table.add_row(*map(_shown, row))
            yield table


def _shown(cell: Cell) -> str:
    if isinstance(cell, Ranged):
        value, low, high = map(format_number, cell)
        return value if low == format_number(math.nan) else f"{value} [{low}, {high}]"
    if isinstance(cell, Share):
        return f"{cell:.1%}"
    return "" if cell is None else cell if isinstance(cell, str) else format_number(cell)


def render_report(
    title: str,
    report: Report,
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
    settings: Mapping[str, Any],
    data_report: DataReport,
) -> str:
    """A self-contained HTML page.

    Args:
      title: of the page.
      report: of the test rows.
      metrics: flat; those of single classes and of the data are in tables of their own.
      history: metrics of each epoch and evaluation, whose keys may differ; empty where nothing was trained.
      settings: the flat config.
      data_report: the rows that were read, dropped and removed, and the findings of the contract.
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
