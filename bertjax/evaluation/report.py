"""Reports of a run: a table for the terminal and a self-contained HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from rich.table import Table

from bertjax.data.intake import Intake
from bertjax.evaluation.metrics import ClassificationReport, Scores

_TEMPLATE = Path(__file__).with_name("report.html.jinja")


def console_table(report: ClassificationReport, title: str) -> Table:
    """Precision, recall, F1 and support by class and averaged, with the accuracy in the title."""
    table = Table(title=f"{title}: accuracy {report.accuracy:.4f}", title_justify="left")
    table.add_column("class")
    for name in ("precision", "recall", "F1", "rows"):
        table.add_column(name, justify="right")

    def add(name: str, scores: Scores) -> None:
        numbers = (f"{value:.4f}" for value in scores[:3])
        table.add_row(name, *numbers, str(scores.support))

    for label, scores in report.by_class.items():
        add(label, scores)
    table.add_section()
    add("weighted", report.weighted)
    add("macro", report.macro)
    return table


def render_report(
    title: str,
    report: ClassificationReport,
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
    settings: Mapping[str, Any],
    intake: Intake,
) -> str:
    """An HTML page that needs nothing but itself.

    Args:
      title: of the page.
      report: of the test rows.
      metrics: flat, shown except those by class and of the data, which have their tables.
      history: metrics of each epoch.
      settings: flat config.
      intake: what was read, dropped and removed, and what became of the contract.
    """
    names = list(report.by_class)
    largest = int(report.confusion.max()) or 1
    confusion = [
        (name, [(int(count), round(float(count) / largest, 3)) for count in row])
        for name, row in zip(names, report.confusion, strict=True)
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        report=report,
        confusion=confusion,
        metrics={key: value for key, value in metrics.items() if "/class/" not in key and not key.startswith("data/")},
        history=history,
        history_columns=[key for key in history[0] if "/class/" not in key] if history else [],
        settings=settings,
        intake=intake,
    )
