"""The numbers of a chart as a table, which stands beside its picture."""

import math
from collections.abc import Sequence
from functools import singledispatch

from bertjax.report_pages.blocks import Cell, DataTable, Figure
from bertjax.report_pages.cell_text import unit_cell
from bertjax.report_pages.charts import Bars, Chart, Columns, Dots, Heatmap, Lines, Parallel, Stacked

_MOST_POINTS = 60  # of curves; the points of a longer one are chosen evenly


def table_beside(figure: Figure) -> DataTable:
    """The table of a figure."""
    return table_of(figure.chart) if figure.table is None else figure.table


@singledispatch
def table_of(chart: Chart) -> DataTable:
    """The numbers of a chart."""
    raise TypeError(f"no chart: {type(chart).__name__}")


@table_of.register
def _(chart: Bars) -> DataTable:
    rows = [(name, unit_cell(value, chart.unit)) for name, value in chart.values.items()]
    return DataTable((chart.name_title, chart.value_title or chart.unit), rows)


@table_of.register
def _(chart: Columns) -> DataTable:
    bounds, counts = chart.histogram
    rows = [(_plain(low), _plain(high), count) for low, high, count in zip(bounds, bounds[1:], counts, strict=False)]
    return DataTable((f"{chart.x_title} from".strip(), "to below", chart.y_title), rows)


@table_of.register
def _(chart: Stacked) -> DataTable:
    columns = [[unit_cell(value, chart.unit) for value in values] for values in chart.parts.values()]
    return DataTable((chart.name_title, *chart.parts), [*zip(chart.names, *columns, strict=True)])


@table_of.register
def _(chart: Dots) -> DataTable:
    dots = list(dict.fromkeys(dot for values in chart.groups.values() for dot in values))
    titles = [f"{chart.dot_title} {dot}".strip() for dot in dots]
    rows = [
        (
            name,
            unit_cell(sum(values.values()) / len(values), chart.unit) if values else None,
            *(unit_cell(values[dot], chart.unit) if dot in values else None for dot in dots),
        )
        for name, values in chart.groups.items()
    ]
    return DataTable((chart.group_title, f"mean {chart.value_title}", *titles), rows)


@table_of.register
def _(chart: Lines) -> DataTable:
    values = [dict(points) for points in chart.series.values()]
    places = sorted({x for series in values for x in series})
    chosen = _evenly(places)
    rows = [
        (_place(x, chart), *(unit_cell(series[x], chart.y_unit) if x in series else None for series in values))
        for x in chosen
    ]
    caption = "" if len(chosen) == len(places) else f"{len(chosen)} of {len(places):,} points."
    names = [chart.y_title] if list(chart.series) == [""] else list(chart.series)
    return DataTable((chart.x_title, *names), rows, caption)


@table_of.register
def _(chart: Parallel) -> DataTable:
    rows = [(name, *(axis.values[i] for axis in chart.axes)) for i, name in enumerate(chart.names)]
    return DataTable(("", *(axis.name for axis in chart.axes)), rows)


@table_of.register
def _(chart: Heatmap) -> DataTable:
    rows = [
        (name, *(unit_cell(value, chart.unit) for value in values))
        for name, values in zip(chart.row_names, chart.values, strict=True)
    ]
    return DataTable((f"{chart.row_title} \\ {chart.column_title}", *chart.column_names), rows)


def _evenly(places: Sequence[float]) -> Sequence[float]:
    if len(places) <= _MOST_POINTS:
        return places
    return [places[round(i * (len(places) - 1) / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)]


def _place(x: float, chart: Lines) -> Cell:
    return unit_cell(x, chart.x_unit) if chart.x_unit == "share" else _plain(x)


def _plain(number: float) -> Cell:
    """A place on an axis: 3 rather than 3.0000."""
    return int(number) if math.isfinite(number) and number == int(number) and abs(number) < 1e15 else float(number)
