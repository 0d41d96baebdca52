"""The charts of a table as PNG files, for MLflow's list of artifacts."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from bertjax.eda.explore import Findings
from bertjax.eda.table_page import MOST_BARS, shown
from bertjax.report_pages.histogram import Histogram
from bertjax.report_pages.literal_text import figure_text

_LONGEST_NAME = 30
_MISSING = "□"


def write_charts(findings: Findings, folder: Path) -> list[Path]:
    """Writes the charts into a folder, and returns their files."""
    charts: dict[str, Callable[[Any], None]] = {
        "lengths": lambda axes: _columns(axes, findings.lengths.histogram, "tokens"),
    }
    if findings.balance:
        labels = {label.name: label.rows for label in findings.balance.labels[:MOST_BARS]}
        charts["labels"] = lambda axes: _bars(axes, labels, "rows")
    for number, column in enumerate(findings.numbers or (), start=1):
        charts[f"target_{number}"] = partial(_columns, histogram=column.histogram, unit=column.name)
    if findings.entities:
        types = {kind.name: kind.entities for kind in findings.entities.types[:MOST_BARS]}
        charts["entities"] = lambda axes: _bars(axes, types, "entities")
    if findings.drift:
        rows = {period.name: period.rows for period in findings.drift.periods}
        charts["drift"] = lambda axes: _bars(axes, rows, "rows")
    return [_drawn(folder / f"{name}.png", draw) for name, draw in charts.items()]


def _drawn(path: Path, draw: Callable[[Any], None]) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    draw(figure.subplots())
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


def _bars(axes: Any, values: Mapping[str, float], unit: str) -> None:
    axes.barh(range(len(values)), list(values.values()), color="#0072b2")
    axes.set_yticks(range(len(values)), [_drawable(name) for name in values])
    axes.invert_yaxis()
    axes.set_xlabel(unit)


def _columns(axes: Any, histogram: Histogram, unit: str) -> None:
    axes.stairs(histogram.counts, histogram.bounds, fill=True, color="#0072b2")
    axes.set_xlabel(_drawable(unit))
    axes.set_ylabel("number")


def _drawable(name: str) -> str:
    """A name in the letters that the font of the charts has; matplotlib warns of each other one."""
    letters = _letters()
    text = shown(name, _LONGEST_NAME)
    return figure_text("".join(letter if ord(letter) in letters else _MISSING for letter in text))


@cache
def _letters() -> frozenset[int]:
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())
