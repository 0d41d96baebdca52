"""Charts as data. `svg_charts` draws them into a page, `png_charts` into files, and each can be read as a table."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

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


class Lines(NamedTuple):
    """Curves over a common axis.

    Attributes:
      title: of the chart, for readers who do not see it, and its file's name.
      series: name -> points, ascending by x.
      x_title, y_title: of the axes.
      x_unit, y_unit: of their values.
      diagonal: whether to draw x = y, such as the perfect calibration.
      marks: name -> x of a line across, such as a threshold.
    """

    title: str
    series: Mapping[str, Sequence[Point]]
    x_title: str
    y_title: str
    x_unit: Unit = "number"
    y_unit: Unit = "number"
    diagonal: bool = False
    marks: Mapping[str, float] = {}


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


Chart = Bars | Lines | Heatmap
