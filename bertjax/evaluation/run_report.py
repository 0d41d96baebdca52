"""The report of a run or an evaluation: a table for the terminal, an HTML page, and Markdown for a pull request."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.data.validate.data_report import DataReport
from bertjax.evaluation import report_sections
from bertjax.evaluation.judged_rows import Finding
from bertjax.evaluation.report_sections import History
from bertjax.metrics.reports import Report, ScoreTable
from bertjax.report_pages.blocks import MARKDOWN, REPORT, Cell, Page, Ranged, Section
from bertjax.report_pages.html_page import format_number
from bertjax.report_pages.html_report import render_sections
from bertjax.report_pages.markdown_report import render_markdown
from bertjax.report_pages.text_table import TextTable
from bertjax.storage.atomic_write import write_text


def console_table(report: Report, title: str) -> TextTable:
    """A table with the scores of each part; the headline score is in the title."""
    name, value, _ = report.headline[0]
    scores = report.table or ScoreTable("", ("", ""), [(name, (value,)) for name, value, _ in report.headline])
    table = TextTable(title=f"{title}: {name} {value:.4f}", show_header=report.table is not None)
    for i, column in enumerate(scores.columns):
        table.add_column(column, justify="right" if i else "left")
    for rows in (scores.rows, scores.averages):
        for part, numbers in rows:
            table.add_row(part, *map(format_number, numbers))
        table.add_section()
    return table


class RunReport(NamedTuple):
    """What a run or an evaluation has to say.

    Attributes:
      title: of the page.
      report: of the test rows.
      metrics: flat.
      settings: the flat config.
      data_report: the rows that were read, dropped and removed, and the findings of the contract.
      history: metrics of each epoch and evaluation, whose keys may differ; empty where nothing was trained.
      findings: further looks at the test rows, in the order of the page.
      intervals: of metrics by their keys in `Report.metrics`, as far as they were computed.
      command: that repeats it; empty where it is not known.
      environment: versions and devices.
    """

    title: str
    report: Report
    metrics: Mapping[str, float]
    settings: Mapping[str, Any]
    data_report: DataReport
    history: History = ()
    findings: Sequence[Finding] = ()
    intervals: Mapping[str, Ranged] = {}
    command: str = ""
    environment: Mapping[str, Any] = {}

    def html(self) -> str:
        """A self-contained page."""
        return render_sections(*self.page())

    def markdown(self) -> str:
        """The same for a pull request, its long tables shortened."""
        return render_markdown(*self.page())

    def page(self) -> Page:
        """The report as data."""
        return Page(self.title, self.sections(), f"Test: {self.report.summary}", self._headline())

    def sections(self) -> list[Section]:
        """All that is shown below the headline."""
        found = [
            report_sections.parts_section(self.report),
            report_sections.training_section(self.history),
            report_sections.confusion_section(self.report.confusion),
            *(finding.section for finding in self.findings),
            report_sections.data_section(self.data_report, trained=bool(self.history)),
            report_sections.metrics_section(self.metrics),
            report_sections.settings_section(self.command, self.settings, self.environment),
        ]
        return [section for section in found if section is not None]

    def _headline(self) -> list[tuple[str, Cell]]:
        """The main metrics, with their intervals."""
        return [(title, self.intervals.get(key or "", value)) for title, value, key in self.report.headline]


def write_page(folder: Path, page: Page) -> None:
    """Writes a report into a folder, as a page and as Markdown."""
    write_text(folder / REPORT, render_sections(*page))
    write_text(folder / MARKDOWN, render_markdown(*page))
