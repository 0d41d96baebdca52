"""Charts as PNG files, for MLflow's list of artifacts."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bertjax.report_pages.blocks import Block, Details, Figure, Section
from bertjax.report_pages.cell_text import shortened, unit_text
from bertjax.report_pages.charts import Bars, Chart, Columns, Dots, Heatmap, Lines, Parallel, Stacked, is_empty
from bertjax.report_pages.literal_text import figure_text

# Colours that colour-blind readers can tell apart (Okabe and Ito 2008), as on the pages.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c46a9b", "#d69200", "#4ba3d9", "#7d5ba6", "#8a8a1f", "#9aa5b1")
_GREY = "#8a949f"
_LONGEST_NAME = 30
_MOST_NAMES = 40  # of bars, and of the sides of a heat map
_MOST_WRITTEN = 15  # names of a heat map up to which its cells have numbers
_MISSING = "□"


def charts_of(sections: Iterable[Section]) -> dict[str, Chart]:
    """The charts of a report by a name for their file: their section's anchor and title, in small letters."""
    found: dict[str, Chart] = {}
    for section in sections:
        for chart in _charts(section.blocks):
            name = _file_name(f"{section.anchor} {chart.title}")
            number = 2
            while (unique := name if name not in found else f"{name}_{number}") in found:
                number += 1
            found[unique] = chart
    return found


def write_charts(charts: Mapping[str, Chart], folder: Path) -> list[Path]:
    """Writes charts into a folder as `NAME.png`, and returns their files; charts without data are left out."""
    return [_written(folder / f"{name}.png", chart) for name, chart in charts.items() if not is_empty(chart)]


def _charts(blocks: Sequence[Block]) -> Iterator[Chart]:
    for block in blocks:
        if isinstance(block, Figure):
            yield block.chart
        elif isinstance(block, Details):
            yield from _charts(block.blocks)


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:80] or "chart"


def _written(path: Path, chart: Chart) -> Path:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7.2, 4.2), layout="constrained")
    axes = canvas.subplots()
    _DRAWN[type(chart)](axes, chart)
    canvas.savefig(path, dpi=120, metadata={"Software": None})
    return path


def _bars(axes: Any, chart: Bars) -> None:
    values = dict(list(chart.values.items())[:_MOST_NAMES])
    axes.barh(range(len(values)), list(values.values()), color=_COLOURS[0])
    axes.set_yticks(range(len(values)), [_drawable(name) for name in values])
    axes.invert_yaxis()
    axes.set_xlabel(_drawable(chart.value_title or chart.unit))


def _columns(axes: Any, chart: Columns) -> None:
    axes.stairs(chart.histogram.counts, chart.histogram.bounds, fill=True, color=_COLOURS[0])
    axes.set(xlabel=_drawable(chart.x_title), ylabel=_drawable(chart.y_title))
    low, high = chart.histogram.bounds[0], chart.histogram.bounds[-1]
    _marks(axes, {name: place for name, place in chart.marks.items() if low <= place <= high})


def _stacked(axes: Any, chart: Stacked) -> None:
    below = [0.0] * len(chart.names)
    for i, (name, sizes) in enumerate(chart.parts.items()):
        axes.bar(range(len(sizes)), sizes, bottom=below, color=_COLOURS[i % len(_COLOURS)], label=_drawable(name))
        below = [low + (size if size > 0 else 0) for low, size in zip(below, sizes, strict=True)]
    axes.set_xticks(range(len(chart.names)), [_drawable(name) for name in chart.names], rotation=45, ha="right")
    if len(chart.parts) > 1:
        axes.legend(frameon=False)


def _dots(axes: Any, chart: Dots) -> None:
    for i, values in enumerate(chart.groups.values()):
        axes.scatter(list(values.values()), [i] * len(values), color=_COLOURS[i % len(_COLOURS)])
        axes.plot([sum(values.values()) / max(1, len(values))] * 2, [i - 0.25, i + 0.25], color=_COLOURS[i % 9])
    axes.set_yticks(range(len(chart.groups)), [_drawable(name) for name in chart.groups])
    axes.invert_yaxis()
    axes.set_xlabel(_drawable(chart.value_title))


def _lines(axes: Any, chart: Lines) -> None:
    curves = {name: points for name, points in chart.series.items() if points}
    for name, behind in chart.faint.items():
        colour = _COLOURS[list(curves).index(name) % len(_COLOURS)] if name in curves else _GREY
        for points in behind:
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.7, alpha=0.5)
    for i, (name, points) in enumerate(curves.items()):
        few = "o" if len(points) <= 12 else ""
        colour = _COLOURS[i % len(_COLOURS)]
        axes.plot(*zip(*points, strict=True), color=colour, marker=few, ms=4, label=_drawable(name))
    if chart.diagonal:
        axes.axline((0, 0), slope=1, color=_GREY, linestyle="--", linewidth=1)
    axes.set(xlabel=_drawable(chart.x_title), ylabel=_drawable(chart.y_title))
    axes.set_yscale(chart.y_scale)
    _marks(axes, chart.marks)
    if len(curves) > 1:
        axes.legend(frameon=False)


def _parallel(axes: Any, chart: Parallel) -> None:
    for i in reversed(range(len(chart.names))):
        colour, width = (_COLOURS[1], 2.4) if i == 0 else (_COLOURS[0], 1.1)
        alpha = 1.0 if i == 0 else 0.15 + 0.7 * chart.strengths[i]
        axes.plot([axis.places[i] for axis in chart.axes], color=colour, linewidth=width, alpha=alpha)
    axes.set_xticks(range(len(chart.axes)), [_drawable(axis.name) for axis in chart.axes], rotation=20, ha="right")
    for x, axis in enumerate(chart.axes):
        for place in axis.labelled:
            axes.annotate(_drawable(axis.values[list(axis.places).index(place)]), (x, place), fontsize=8)
    axes.set_yticks([])


def _heatmap(axes: Any, chart: Heatmap) -> None:
    rows = [list(row[:_MOST_NAMES]) for row in chart.values[:_MOST_NAMES]]
    axes.imshow(rows, cmap="Blues", aspect="auto")
    for ticks, names in ((axes.set_xticks, chart.column_names), (axes.set_yticks, chart.row_names)):
        ticks(range(len(names[:_MOST_NAMES])), [_drawable(name) for name in names[:_MOST_NAMES]])
    axes.tick_params(axis="x", rotation=45)
    axes.set(xlabel=_drawable(chart.column_title), ylabel=_drawable(chart.row_title))
    most = max((value for row in rows for value in row if math.isfinite(value)), default=0)
    if max(len(rows), len(rows[0])) <= _MOST_WRITTEN:
        for y, row in enumerate(rows):
            for x, value in enumerate(row):
                ink = "white" if value > 0.6 * most else "black"
                axes.text(x, y, unit_text(value, chart.unit), ha="center", va="center", fontsize=8, color=ink)


def _marks(axes: Any, marks: Mapping[str, float]) -> None:
    for name, place in marks.items():
        axes.axvline(place, color="#b3470f", linestyle="--", linewidth=1)
        axes.annotate(_drawable(name), (place, 1), xycoords=("data", "axes fraction"), va="bottom", fontsize=8)


_DRAWN: Mapping[type, Callable[[Any, Any], None]] = {
    Bars: _bars,
    Columns: _columns,
    Stacked: _stacked,
    Dots: _dots,
    Lines: _lines,
    Parallel: _parallel,
    Heatmap: _heatmap,
}


def _drawable(name: str) -> str:
    """A name in the letters that the font of the charts has; matplotlib warns of each other one."""
    letters = _letters()
    text = shortened(name, _LONGEST_NAME)
    return figure_text("".join(letter if ord(letter) in letters else _MISSING for letter in text))


@cache
def _letters() -> frozenset[int]:
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())
