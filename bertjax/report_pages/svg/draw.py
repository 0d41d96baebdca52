"""A chart as an element of a page."""

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from bertjax.report_pages.charts import Bars, Chart, Columns, Dots, Lines, Parallel, Stacked, is_empty
from bertjax.report_pages.svg.column_charts import histogram, stacked
from bertjax.report_pages.svg.curve_charts import lines, parallel
from bertjax.report_pages.svg.row_charts import bars, dots

_DRAWN: Mapping[type, Callable[[Any], Markup]] = {
    Bars: bars,
    Columns: histogram,
    Stacked: stacked,
    Dots: dots,
    Lines: lines,
    Parallel: parallel,
}


def draw(chart: Chart) -> Markup | None:
    """Draws a chart; None where it has nothing to draw, and for a heat map, which is a table with tinted cells."""
    drawn = _DRAWN.get(type(chart))
    return None if drawn is None or is_empty(chart) else drawn(chart)
