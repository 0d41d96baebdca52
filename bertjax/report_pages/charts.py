"""Charts as data. `svg` draws them into a page, `png_charts` into files, and `chart_tables` writes them as tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from bertjax.report_pages.histogram import Histogram

Unit = Literal["count", "share", "number"]
Point = tuple[float, float]


class Bars(NamedTuple):
    """Horizontal bars from zero.

    Attributes:
      title: of the chart, for readers who do not see it, and its file's name.
      values: name -> length, none below 0.
      unit: of the values.
      name_title: what the names are, such as "label".
      value_title: what the values are, such as "rows".
    """

    title: str
    values: Mapping[str, float]
    unit: Unit = "count"
    name_title: str = ""
    value_title: str = ""


class Columns(NamedTuple):
    """A histogram.

    Attributes:
      title: of the chart, for readers who do not see it, and its file's name.
      histogram: counts between bounds.
      x_title: what is counted, such as "tokens".
      y_title: of the counts, such as "rows".
      marks: name -> place of a line across, such as a limit; one outside of the bounds is not drawn.
    """

    title: str
    histogram: Histogram
    x_title: str = ""
    y_title: str = "number"
    marks: Mapping[str, float] = {}


class Stacked(NamedTuple):
    """Columns of parts that lie on one another, such as the labels of each month.

    Attributes:
      title: of the chart, for readers who do not see it, and its file's name.
      names: of the columns, in order.
      parts: name -> its size in each column, none below 0; NaN is nothing.
      unit: of the sizes; shares of a column sum to 1 at most.
      name_title: what the columns are, such as "month".
    """

    title: str
    names: Sequence[str]
    parts: Mapping[str, Sequence[float]]
    unit: Unit = "count"
    name_title: str = ""


class Dots(NamedTuple):
    """Few numbers of each of some groups, such as the scores of frameworks by seed, with their mean.

    Attributes:
      title: of the chart, for readers who do not see it, and its file's name.
      groups: name -> name of a dot -> value; dots of one name are joined over the groups.
      value_title: what the values are.
      unit: of the values.
      group_title, dot_title: what the names are, such as "framework" and "seed".
      from_zero: whether the axis begins at zero.
    """

    title: str
    groups: Mapping[str, Mapping[str, float]]
    value_title: str
    unit: Unit = "number"
    group_title: str = ""
    dot_title: str = ""
    from_zero: bool = False


class Lines(NamedTuple):
    """Curves over a common axis.

    Attributes:
      title: of the chart, for readers who do not see it, and its file's name.
      series: name -> points, ascending by x.
      x_title, y_title: of the axes.
      x_unit, y_unit: of their values.
      diagonal: whether to draw x = y, such as the perfect calibration.
      marks: name -> x of a line across, such as a threshold.
      faint: name -> further curves, drawn thinly: in the colour of the series of this name, or else in grey.
      y_scale: of the vertical axis; what is not positive lies at the foot of a logarithmic one.
    """

    title: str
    series: Mapping[str, Sequence[Point]]
    x_title: str
    y_title: str
    x_unit: Unit = "number"
    y_unit: Unit = "number"
    diagonal: bool = False
    marks: Mapping[str, float] = {}
    faint: Mapping[str, Sequence[Sequence[Point]]] = {}
    y_scale: Literal["linear", "log"] = "linear"


class ParallelAxis(NamedTuple):
    """An axis of `Parallel`.

    Attributes:
      name: what it measures.
      places: of each line on it, from 0 (its foot) to 1.
      values: of each line, in words.
      labelled: the places at which the axis has the value written beside it.
    """

    name: str
    places: Sequence[float]
    values: Sequence[str]
    labelled: Sequence[float]


class Parallel(NamedTuple):
    """Lines across several axes, one a trial of a search: which settings go with which score.

    Attributes:
      title: of the chart, for readers who do not see it, and its file's name.
      names: of the lines; the first one is the best, and drawn so.
      axes: from left to right.
      strengths: of the lines, from 0 (pale) to 1.
    """

    title: str
    names: Sequence[str]
    axes: Sequence[ParallelAxis]
    strengths: Sequence[float]


class Heatmap(NamedTuple):
    """Numbers of two kinds of names, such as a confusion; on a page it is its own table.

    Attributes:
      title: of the chart, and its file's name.
      row_title, column_title: what the names are.
      row_names, column_names: of its sides.
      values: row by row.
      unit: of the values.
    """

    title: str
    row_title: str
    column_title: str
    row_names: Sequence[str]
    column_names: Sequence[str]
    values: Sequence[Sequence[float]]
    unit: Unit = "count"


Chart = Bars | Columns | Stacked | Dots | Lines | Parallel | Heatmap


def is_empty(chart: Chart) -> bool:
    """Whether a chart has nothing that can be drawn."""
    return not any(map(math.isfinite, _numbers(chart)))


def _numbers(chart: Chart) -> Iterator[float]:
    """The numbers that a chart draws; of a count or share of zero nothing is seen."""
    match chart:
        case Bars():
            yield from chart.values.values()
        case Columns():
            yield from filter(None, chart.histogram.counts)
        case Stacked():
            yield from (size for sizes in chart.parts.values() for size in sizes if size > 0)
        case Dots():
            yield from (value for values in chart.groups.values() for value in values.values())
        case Lines():
            curves = [*chart.series.values(), *(curve for curves in chart.faint.values() for curve in curves)]
            yield from (x + y for curve in curves for x, y in curve)
        case Parallel():
            yield from (place for axis in chart.axes for place in axis.places)
        case Heatmap():
            yield from (value for row in chart.values for value in row)
