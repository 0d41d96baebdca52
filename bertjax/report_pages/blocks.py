"""What a report consists of, as data: sections of blocks. They become a page (`html_report`) or Markdown
(`markdown_report`); what makes a section knows neither.

Every text may be a user's: it is escaped where it is shown.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bertjax.report_pages.charts import Chart


class Share(float):
    """A number from 0 to 1 that is shown in per cent."""


class Ranged(NamedTuple):
    """A number with its confidence interval; sorted by the number."""

    value: float
    low: float
    high: float


class Written(NamedTuple):
    """A number in words of its own; sorted by the number."""

    value: float
    text: str


Cell = str | int | float | Ranged | Written | None
"""A text; a count (int); a number (float, four decimals, NaN is "undefined"), a `Share`, a `Ranged` or a `Written`;
None: empty."""


class Paragraph(NamedTuple):
    """A text; a note stands out."""

    text: str
    is_note: bool = False


class DataTable(NamedTuple):
    """A table that the reader can sort.

    Attributes:
      columns: their titles.
      rows: of cells, one a column.
      caption: what the table shows.
      averages: rows over the others, which stay at its end.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    averages: Sequence[Sequence[Cell]] = ()


class Figure(NamedTuple):
    """A chart, with its numbers as a table beside it.

    Attributes:
      chart: what is drawn.
      caption: what it shows.
      table: its numbers, where there are more of them than in the chart (`chart_tables`).
    """

    chart: Chart
    caption: str = ""
    table: DataTable | None = None


class ColouredText(NamedTuple):
    """A text whose parts speak for or against something.

    Attributes:
      parts: of the text, in order, with their weights from -1 to 1; white space between words is a part of weight 0.
      caption: what the text is, and what colours mean.
    """

    parts: Sequence[tuple[str, float]]
    caption: str = ""


class Details(NamedTuple):
    """Blocks that are folded away under a summary."""

    summary: str
    blocks: Sequence["Block"]
    is_open: bool = False


Block = Paragraph | DataTable | Figure | ColouredText | Details


class Section(NamedTuple):
    """A part of a report.

    Attributes:
      anchor: its id on the page, such as `slices`.
      title: in words.
      blocks: what it shows.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]


REPORT, MARKDOWN, CHARTS = "report.html", "report.md", "charts"  # of a page, in the folder of a result


class Page(NamedTuple):
    """A report as a whole: the arguments of its renderers.

    Attributes:
      title: of the page.
      sections: in order.
      subtitle: a line below the title.
      tiles: name -> number of the headline.
    """

    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    tiles: Sequence[tuple[str, Cell]] = ()
